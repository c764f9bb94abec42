package wechat

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// refreshReporter logs and counts refreshes. It logs a failure at level warn once per app and
// cause, and then the recovery.
type refreshReporter struct {
	log  *slog.Logger // nil: slog.Default()
	hook func(app, result string)

	mu         sync.Mutex        // guards lastCauses
	lastCauses map[string]string // by app: the cause that was last logged
}

func (r *refreshReporter) logger() *slog.Logger {
	if r.log == nil {
		return slog.Default()
	}
	return r.log
}

func (r *refreshReporter) result(app, result string) {
	if r.hook != nil {
		r.hook(app, result)
	}
}

// succeeded reports a successful refresh.
func (r *refreshReporter) succeeded(ctx context.Context, app string) {
	r.result(app, "ok")
	r.mu.Lock()
	cause, failing := r.lastCauses[app]
	delete(r.lastCauses, app)
	r.mu.Unlock()
	if failing {
		r.logger().InfoContext(ctx, "token refresh works again", "app", app, "cause", cause)
		return
	}
	r.logger().DebugContext(ctx, "token refreshed", "app", app)
}

// failed reports a failed refresh; kept means that a token which is still valid stays in use.
func (r *refreshReporter) failed(ctx context.Context, app string, err error, kept bool) {
	cause, result := "error", "error"
	var apiErr *APIError
	isAPI := errors.As(err, &apiErr)
	switch {
	case errors.Is(err, ErrTokenRejected):
		cause = "token_rejected"
	case errors.Is(err, ErrNoTicket):
		cause = "no_ticket"
	case errors.Is(err, ErrUnauthorized):
		cause = "unauthorized"
	case isAPI:
		cause = codeCause(apiErr.Code)
	}
	switch {
	case isAPI && apiErr.Class() == ClassConfig:
		result = "config"
	case kept:
		result = "kept"
	}
	r.result(app, result)

	r.mu.Lock()
	known := r.lastCauses[app] == cause
	r.lastCauses[app] = cause
	r.mu.Unlock()
	if known {
		r.logger().DebugContext(ctx, "token refresh failed again", "app", app, "err", err)
		return
	}
	r.logger().WarnContext(ctx, "token refresh failed", "app", app, "cause", cause, "kept", kept, "advice", Advice(err), "err", err)
}
