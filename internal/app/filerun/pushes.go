package filerun

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// sandboxPushes receives the pushes of the sandbox, from the first task on that needs one.
type sandboxPushes struct {
	server *app.CallbackServer // nil: not yet
	token  string              // that signs the pushes
	apps   map[string]bool     // whose pushes come
}

// admitTask refuses a task that ends with a push of WeChat's where none can come. With the sandbox it
// lets the pushes of the app come.
func (r *Run) admitTask(ctx context.Context, e tasks.Envelope) error {
	spec, ok := tasks.Lookup(e.Type)
	if !ok || !spec.Callback {
		return nil
	}
	if r.cfg.Sandbox {
		return r.receivePushes(ctx, e.App)
	}
	if r.journal != nil {
		if _, ended, err := r.journal.Outcome(e.App, e.ID); ended || err != nil {
			return err // its outcome is printed again
		}
		return fmt.Errorf("type: %s ends with a push of WeChat's, which a run without a Redis cannot receive: configure redis.addrs, callback of the app, and a gateway with gateway.callback_listen", e.Type)
	}
	if r.parts.Tasks.WarningOf(e.App, e.Type) != "" {
		return fmt.Errorf("type: %s ends with a push of WeChat's, and %s has no callback: configure callback of the app in %s, and a gateway with gateway.callback_listen", e.Type, e.App, r.cfg.SettingsName)
	}
	return nil
}

// receivePushes lets the sandbox push the verdicts on the media checks of an app to this process. It
// pushes no receipts, since nothing here reads them.
func (r *Run) receivePushes(ctx context.Context, id string) error {
	p := &r.pushes
	if p.server == nil {
		p.token, p.apps = rand.Text(), make(map[string]bool)
		server, err := r.parts.StartMediaPushes(ctx, callback.Keys{Token: p.token})
		if err != nil {
			return err
		}
		p.server = server
		r.closers = append(r.closers, func() error { server.Close(); return nil }) //nolint:contextcheck // the clean-up does not end with ctx
		for _, receipt := range []string{callback.EventTemplateSent, callback.EventSubscribeSent} {
			if _, err := r.sandbox.AddPushFault(sandbox.PushFault{Name: "noreceipt", Event: receipt}); err != nil {
				return err
			}
		}
	}
	if p.apps[id] {
		return nil
	}
	p.apps[id] = true
	return r.sandbox.SetCallback(id, sandbox.Callback{URL: p.server.URL() + "/callback/" + id, Token: p.token, Format: sandbox.FormatJSON})
}
