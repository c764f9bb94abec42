package wechat

import (
	"context"
	"errors"
	"log/slog"
	"sync"
)

// refreshReporter tells of refreshes: each failure once per app and cause, and when
// it is over.
type refreshReporter struct {
	log  *slog.Logger // nil: slog.Default()
	hook func(app, result string)

	mu         sync.Mutex        // guards said
	lastCauses map[string]string // by app: the cause that was last told
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

// succeeded tells of a refresh that worked.
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

// failed tells of a refresh that did not; kept: a token that is still valid stays in use.
func (r *refreshReporter) failed(ctx context.Context, app string, err error, kept bool) {
	cause, result := "error", "error"
	var apiErr *APIError
	isAPI := errors.As(err, &apiErr)
	switch {
	case errors.Is(err, ErrTokenRejected):
		cause = "token_rejected"
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
