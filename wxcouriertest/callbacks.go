package wxcouriertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	receiver "github.com/wxcourier/wxcourier/gateway/callback"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	// callbackToken and callbackKey sign and encrypt the pushes of every app.
	callbackToken = "token"
	callbackKey   = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	// anyAge is how old or early a push may be: its time is that of the kit's clock.
	anyAge = 20 * 365 * 24 * time.Hour
	// lookEvery is how often a wait looks at Redis.
	lookEvery = 5 * time.Millisecond
)

// callbacks receives WeChat's pushes for the apps with receipts, as a gateway does.
type callbacks struct {
	apps     []string
	server   *httptest.Server
	receiver *receiver.Receiver
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// startCallbacks receives the pushes of the apps that have receipts; nil: no app has.
func (k *Kit) startCallbacks(log *slog.Logger) (*callbacks, error) {
	c := &callbacks{apps: appsWith(k.opts.Apps, func(app worker.App) bool { return app.Receipts })}
	if len(c.apps) == 0 {
		return nil, nil //nolint:nilnil // no app has receipts
	}
	counting := appsWith(k.opts.Apps, countsConsents)
	policy := worker.RecordPolicy(worker.DefaultResultsConfig(), 2*k.opts.CallTimeout)
	receipts := pushes.NewReceipts(pushes.ReceiptsDeps{
		Redis: k.rdb, Policy: policy, Apps: func() []string { return c.apps }, Log: log, Now: k.Now,
		OnReceipt: func(tasks.Result, time.Time) {}, OnOutcome: k.results.add, OnDropped: func(string, pushes.Dropped) {},
	})
	var err error
	c.receiver, err = receiver.New(receiver.Deps{
		Redis: k.rdb,
		Keys: func(app string) (callback.Keys, bool) {
			return callback.Keys{App: app, Token: callbackToken, AESKey: callbackKey}, slices.Contains(c.apps, app)
		},
		Handlers: []pushes.Handler{
			receipts,
			pushes.NewChoices(consent.NewStore(k.rdb, k.Now), func(app string) bool { return slices.Contains(counting, app) }),
			pushes.NewMediaChecks(pushes.MediaChecksDeps{Redis: k.rdb, Policy: policy, Log: log, OnOutcome: k.results.add, Now: k.Now}),
		},
		Registry: prometheus.NewRegistry(), Log: log, MaxAge: anyAge,
	})
	if err != nil {
		return nil, err
	}
	c.server = httptest.NewServer(c.receiver)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.running.Go(func() { c.receiver.Run(ctx) })
	c.running.Go(func() { receipts.Run(ctx) })
	for _, app := range c.apps {
		to := sandbox.Callback{URL: c.server.URL + "/callback/" + app, Token: callbackToken, AESKey: callbackKey}
		if err := k.WeChat.SetCallback(app, to); err != nil {
			c.stop()
			return nil, err
		}
	}
	return c, nil
}

// stop ends the receiver after the last push.
func (c *callbacks) stop() {
	if c == nil {
		return
	}
	c.server.Close()
	c.cancel()
	c.running.Wait()
	c.receiver.Close()
}

// appsWith returns the ids of some apps.
func appsWith(apps []worker.App, has func(worker.App) bool) []string {
	var ids []string
	for _, app := range apps {
		if has(app) {
			ids = append(ids, app.ID)
		}
	}
	return ids
}

func countsConsents(app worker.App) bool {
	return consent.Mode(app.Consent).Counts()
}

// Receipt waits for the receipt of a task's message, and returns the task's result with it. It fails the
// test after Options.WaitTimeout. The app must have Receipts. The openid decides what the receipt says:
// "userblock-oBuyer" has blocked the message, see the list of prefixes of package sandbox.
func (k *Kit) Receipt(id string) tasks.Result {
	k.t.Helper()
	if k.callbacks == nil {
		k.t.Fatalf("wxcouriertest: Receipt(%q): no app has receipts: set Receipts in Options.Apps", id)
	}
	last := "no task with this id was enqueued"
	found, ok := tasks.Result{}, false
	k.await(func(ctx context.Context) bool {
		for _, app := range k.callbacks.apps {
			r, err := k.client.Result(ctx, app, id)
			switch {
			case err == nil && r.Receipt != "":
				found, ok = r, true
				return true
			case err == nil && r.Outcome != "":
				last = fmt.Sprintf("its outcome is %s", r.Outcome)
			case err == nil:
				last = fmt.Sprintf("it is %s", r.State)
			}
		}
		return false
	})
	if !ok {
		k.t.Fatalf("wxcouriertest: no receipt of %s within %v: %s", id, k.opts.WaitTimeout, last)
	}
	return found
}

// WaitPushes waits until every push of WeChat was sent and handled: after WeChat.Popup, for example,
// until Client().Consent knows of the acceptance. It fails the test after Options.WaitTimeout.
func (k *Kit) WaitPushes() {
	k.t.Helper()
	var err error
	if !k.await(func(ctx context.Context) bool {
		if err = k.WeChat.WaitPushes(ctx); err != nil || k.callbacks == nil {
			return err == nil
		}
		for _, app := range k.callbacks.apps {
			waiting, failed := receiver.Waiting(ctx, k.rdb, app)
			if err = failed; err != nil || waiting > 0 {
				return false
			}
		}
		return true
	}) {
		k.t.Fatalf("wxcouriertest: the pushes were not handled within %v (%v)", k.opts.WaitTimeout, err)
	}
}

// await calls done until it returns true, or Options.WaitTimeout has passed.
func (k *Kit) await(done func(ctx context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(k.t.Context(), k.opts.WaitTimeout)
	defer cancel()
	for !done(ctx) {
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// awaitTemplates waits until the worker has asked WeChat for the templates of the apps that need them, so
// that the first message is compared with them.
func (k *Kit) awaitTemplates() error {
	need := appsWith(k.opts.Apps, func(app worker.App) bool {
		return app.Templates.Fetch || app.Templates.Fix || app.Templates.Check != "" && app.Templates.Check != string(templates.CheckOff)
	})
	for _, app := range need {
		if !k.await(func(ctx context.Context) bool {
			known, err := templates.Read(ctx, k.rdb, app)
			return err == nil && known != nil && !known.FetchedAt.IsZero()
		}) {
			return errors.New("the worker has not read the message templates of " + app)
		}
	}
	return nil
}

// setTemplates gives WeChat the templates of Options.Templates.
func (k *Kit) setTemplates() error {
	for app, list := range k.opts.Templates {
		if err := k.WeChat.SetTemplates(app, list); err != nil {
			return fmt.Errorf("Options.Templates: %w", err)
		}
	}
	return nil
}
