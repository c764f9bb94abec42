// Package operate has the verbs of operators that the API and the console share: they hold and
// release. The callers check who may do it.
package operate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Holds sets and releases holds. All fields are required.
type Holds struct {
	Store  *hold.Store
	Tokens *wechat.Tokens
	Reader *inspect.Reader
	// Configured reports whether an app is configured: the limits of others are not known here.
	Configured func(app string) bool
	// SyncPauses shows the holds of an app in asynq's pauses, and AskQuotas asks WeChat how much
	// of some quotas of an app is used, and learns the answers.
	SyncPauses func(ctx context.Context, app string) error
	AskQuotas  func(ctx context.Context, app string, types []string) error
	// Audit records a change, with who made it.
	Audit func(ctx context.Context, e audit.Entry)
	Log   *slog.Logger
}

// MaxText is the maximum length of a template id and of a reason, in bytes.
const MaxText = 200

// The errors of Set.
var (
	ErrPassed = errors.New("operate: the end of the hold has passed by the clock of Redis")
	ErrEnded  = errors.New("operate: the hold has already ended, or was released by another operator")
)

// ValidScope reports whether operators may hold a scope: the whole app, a task type or a template.
func ValidScope(scope string) bool {
	if id, ok := strings.CutPrefix(scope, hold.TemplateScope("")); ok {
		return id != "" && len(id) <= MaxText && !strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' })
	}
	_, isType := tasks.Lookup(scope)
	return isType || scope == hold.WholeApp
}

// ValidReason reports whether a text can be the reason of a hold: one line of at most MaxText bytes.
func ValidReason(text string) bool {
	return len(text) <= MaxText && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Set sets a hold, and returns the one that is in force then. set is false if one that ends no
// earlier was in force. Without a reason it is "operator".
func (o *Holds) Set(ctx context.Context, h hold.Hold) (inForce hold.Hold, set bool, err error) {
	h.Reason = cmp.Or(h.Reason, "operator")
	set, err = o.Store.Set(ctx, h)
	if err != nil && !set { // with set only the wake-up failed
		return hold.Hold{}, false, err
	}
	if set {
		o.Audit(ctx, audit.Entry{Action: audit.Hold, App: h.App, Target: h.Scope, Note: audit.HoldNote(h.Reason, h.Until)})
	}
	inForce, held, err := o.Store.Get(ctx, h.App, h.Scope)
	switch {
	case err != nil:
		return hold.Hold{}, set, err
	case !held && !set:
		return hold.Hold{}, false, ErrPassed
	case !held:
		return hold.Hold{}, true, ErrEnded
	}
	o.syncPauses(ctx, h.App)
	return inForce, set, nil
}

// syncPauses pauses asynq's queues according to the app's holds. If it fails, workers do it later.
func (o *Holds) syncPauses(ctx context.Context, app string) {
	if err := o.SyncPauses(ctx, app); err != nil {
		o.Log.Warn("the asynq web UI does not show a change of holds before a worker runs", slog.String("app", app), slog.Any("err", err))
	}
}

// Released is what became of a release.
type Released struct {
	Released bool        // false: nothing was held
	Hold     *hold.Hold  // the released hold; nil: none
	Spent    []hold.Hold // limits that stay spent by our own count
}

// Release ends a hold of an operator or a worker. Where a quota was the cause, or is spent by our own
// count, it asks WeChat for its count, and believes one that went down.
func (o *Holds) Release(ctx context.Context, app, scope string) (Released, error) {
	h, held, err := o.Store.Get(ctx, app, scope)
	if err != nil {
		return Released{}, err
	}
	if scope == hold.WholeApp { // or else the next call fails with the last error, and holds the app again
		if err := o.Tokens.EndBackoff(ctx, app); err != nil {
			return Released{}, err
		}
	}
	lifted, err := o.Store.Lift(ctx, app, scope)
	if err != nil && !lifted { // with lifted only the wake-up failed
		return Released{}, err
	}
	if lifted {
		o.Audit(ctx, audit.Entry{Action: audit.Release, App: app, Target: scope, Note: h.Reason})
	}
	o.syncPauses(ctx, app)
	r := Released{Released: lifted}
	if held && lifted {
		r.Hold = &h
	}
	r.Spent, err = o.refreshSpent(ctx, app, scope, r.Hold)
	return r, err
}

// quotaTime bounds how long a release waits for WeChat's answers.
const quotaTime = 10 * time.Second

// refreshSpent asks WeChat for the counts of the types that were held for their quota, or whose
// limit is spent by our own count, and returns the limits that stay spent.
func (o *Holds) refreshSpent(ctx context.Context, app, scope string, released *hold.Hold) ([]hold.Hold, error) {
	if !o.Configured(app) || hold.IsTemplate(scope) {
		return nil, nil
	}
	spent, err := o.spentWithin(ctx, app, scope)
	if err != nil {
		return nil, err
	}
	var types []string
	if released != nil && released.Reason == inspect.ReasonQuotaDay && scope != hold.WholeApp {
		types = append(types, scope)
	}
	for _, h := range spent {
		if typ := TypeOf(h.Scope); !slices.Contains(types, typ) {
			types = append(types, typ)
		}
	}
	if len(types) == 0 {
		return nil, nil
	}
	bounded, cancel := context.WithTimeout(ctx, quotaTime)
	defer cancel()
	if err := o.AskQuotas(bounded, app, types); err != nil {
		o.Log.Warn("cannot learn WeChat's count of a quota", slog.String("app", app), slog.Any("err", err))
		return spent, nil
	}
	o.syncPauses(ctx, app)
	return o.spentWithin(ctx, app, scope)
}

// spentWithin returns the limits of an app, or of one of its types, that are spent by our count.
func (o *Holds) spentWithin(ctx context.Context, app, scope string) (spent []hold.Hold, err error) {
	state, err := o.Reader.Read(ctx, []string{app}, func(other string) bool { return other == app })
	for _, s := range state.Spent() {
		if (hold.Hold{App: app, Scope: scope}).Stops(app, TypeOf(s.Scope)) {
			spent = append(spent, s.Hold)
		}
	}
	return spent, err
}

// TypeOf returns the task type of the scope of a spent limit.
func TypeOf(scope string) string {
	if typ, ok := hold.ParseBulk(scope); ok {
		return typ
	}
	return scope
}
