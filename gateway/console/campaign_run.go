package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/draft"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// maxChecks is how many tables are checked at the same time, and maxSends how many are sent: each
	// is in memory.
	maxChecks = 2
	maxSends  = 4
	// releaseTimeout is how long the last progress of a sending may take to be written.
	releaseTimeout = 5 * time.Second
)

// campaigns sends drafts in the background. A sending ends when its rows are enqueued, its key is
// revoked, or the gateway shuts down; the page of the draft then offers to continue it.
type campaigns struct {
	store  *draft.Store
	sender *campaign.Sender
	log    *slog.Logger

	rdb redis.UniversalClient

	checks  chan struct{} // has an element for each check
	sends   chan struct{} // has an element for each sending
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func newCampaigns(deps Deps) *campaigns {
	c := &campaigns{
		store: draft.NewStore(deps.Redis), sender: campaign.NewSender(deps.Redis), log: deps.Log,
		rdb:    deps.Redis,
		checks: make(chan struct{}, maxChecks), sends: make(chan struct{}, maxSends),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// close stops what is being sent, and waits for it.
func (c *campaigns) close() {
	c.cancel()
	c.running.Wait()
	c.sender.Close()
}

// templatesOf returns the message templates of an app as they are now; nil: none are known.
func (c *campaigns) templatesOf(ctx context.Context, app string) (*templates.Registry, error) {
	registry, err := templates.Read(ctx, c.rdb, app)
	if err != nil {
		return nil, fmt.Errorf("read the message templates of %s: %w", app, err)
	}
	return registry, nil
}

// enter waits for a slot of a check. leave must be called.
func (c *campaigns) enter(ctx context.Context) (leave func(), err error) {
	select {
	case c.checks <- struct{}{}:
		return func() { <-c.checks }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// campaignRun is how far the sending of a draft has come, as it is in Redis.
type campaignRun struct {
	By      string        `json:"by"` // id of the key
	Started time.Time     `json:"started"`
	Ended   time.Time     `json:"ended,omitzero"` // zero: it is under way, or was broken off
	Rows    int           `json:"rows"`           // that were to be sent when it began
	Sent    campaign.Sent `json:"sent"`
	// Error is the id of a text that says why it ended early; "": all rows are enqueued.
	Error string `json:"error,omitempty"`
	// AcceptChange is that of campaign.SendOptions.
	AcceptChange bool `json:"accept_change,omitempty"`
}

// start begins to send a draft, or to continue it.
func (c *Console) start(r *request, d draft.Draft, info campaignInfo, acceptChange bool) error {
	select {
	case c.campaigns.sends <- struct{}{}:
	default:
		return faultf(http.StatusServiceUnavailable, "send.busy")
	}
	s := &sending{
		campaigns: c.campaigns, draft: d, info: info, key: r.key, keys: c.Keys, retention: c.Retention,
		run: campaignRun{By: r.key.ID, Started: r.now, Rows: info.Check.State.Remaining, AcceptChange: acceptChange},
	}
	var err error
	if s.lock, err = c.campaigns.store.Lock(r.Context(), d, s.progress()); err != nil {
		<-c.campaigns.sends
		switch {
		case errors.Is(err, draft.ErrLocked):
			return faultf(http.StatusConflict, "send.locked")
		case errors.Is(err, draft.ErrNotFound):
			return faultf(http.StatusNotFound, "send.gone")
		}
		return err
	}
	audit.Record(r.Context(), c.Redis, c.Log, audit.Entry{
		By: "key:" + r.key.ID, Via: audit.Console, Action: audit.Campaign, App: d.App, Target: d.Batch,
		Count: int64(s.run.Rows), Note: info.Form.Type,
	})
	c.campaigns.running.Go(func() {
		defer func() { <-c.campaigns.sends }()
		s.all()
	})
	return nil
}

// sending sends one draft.
type sending struct {
	*campaigns
	draft     draft.Draft
	info      campaignInfo
	key       *apikey.Key
	keys      *apikey.Set
	retention time.Duration
	lock      *draft.Lock

	mu  sync.Mutex
	run campaignRun // guarded by mu
}

// progress returns the progress as it is written to Redis.
func (s *sending) progress() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, err := json.Marshal(s.run)
	if err != nil {
		panic(err) // a struct of numbers, texts and times
	}
	return text
}

// all sends the rows, and writes the progress to the end.
func (s *sending) all() {
	valid, end := s.keys.WhileValid(s.ctx, s.key)
	defer end()
	ctx, cancel := context.WithCancelCause(valid)
	defer cancel(nil)
	updated := make(chan struct{})
	go func() {
		defer close(updated)
		s.update(ctx, cancel)
	}()
	err := s.send(ctx)
	cancel(err)
	<-updated
	s.end(ctx, err, valid.Err() != nil && s.ctx.Err() == nil)
}

// update keeps the lock, and writes the progress, until ctx ends.
func (s *sending) update(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(draft.UpdateEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.lock.Update(ctx, s.progress()); errors.Is(err, draft.ErrLost) {
			cancel(err)
			return
		}
	}
}

// send checks the table again, and enqueues its rows.
func (s *sending) send(ctx context.Context) error {
	content, err := s.store.Table(ctx, s.draft.App, s.draft.ID)
	if err != nil {
		return err
	}
	plan, err := s.info.Form.plan(content)
	if err != nil {
		return err
	}
	if plan.Templates, err = s.templatesOf(ctx, plan.App); err != nil {
		return err
	}
	checked, err := campaign.Check(ctx, plan, time.Now())
	if err != nil {
		return err
	}
	if s.info.Form.Strict && checked.Faulty() > 0 {
		return errStrict
	}
	sent, err := s.sender.Send(ctx, checked, campaign.SendOptions{
		AcceptChange: s.run.AcceptChange, Retention: s.retention, OnProgress: s.sent,
	})
	s.sent(sent)
	return err
}

// errStrict means that rows are at fault, and the form says that none is sent then.
var errStrict = errors.New("console: rows are at fault")

func (s *sending) sent(sent campaign.Sent) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.run.Sent = sent
}

// plan returns the plan of a form that was checked.
func (f sendForm) plan(content []byte) (plan campaign.Plan, err error) {
	plan = campaign.Plan{App: f.App, Type: f.Type, Batch: f.Batch}
	if plan.Template, err = campaign.ParseTemplate([]byte(f.Template)); err != nil {
		return plan, err
	}
	if plan.Table, err = table.Open(bytes.NewReader(content), int64(len(content)), f.File); err != nil {
		return plan, err
	}
	f.times(&plan) // they were checked
	return plan.Complete()
}

// end writes how a sending ended. One that a shutdown stopped has not ended: it can be continued.
func (s *sending) end(ctx context.Context, err error, revoked bool) {
	lost := errors.Is(context.Cause(ctx), draft.ErrLost)
	if lost {
		s.log.Warn("the sending of a campaign was left to another gateway", "app", s.draft.App, "batch", s.draft.Batch)
		return
	}
	s.mu.Lock()
	switch {
	case err == nil:
		s.run.Ended = time.Now()
	case revoked:
		s.run.Ended, s.run.Error = time.Now(), "send.error.revoked"
	case s.ctx.Err() == nil:
		s.run.Ended, s.run.Error = time.Now(), sendError(err)
		if s.run.Error == "send.error.redis" {
			s.log.Warn("a campaign was not sent to the end", "app", s.draft.App, "batch", s.draft.Batch, "err", err)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := s.lock.Release(ctx, s.progress()); err != nil {
		s.log.Warn("the end of a campaign's sending was not written", "app", s.draft.App, "batch", s.draft.Batch, "err", err)
	}
}

// sendError returns the text of an error of campaign.Sender.Send.
func sendError(err error) string {
	for _, known := range []struct {
		err  error
		text string
	}{
		{campaign.ErrChanged, "send.error.changed"},
		{campaign.ErrForeign, "send.error.foreign"},
		{campaign.ErrCanceled, "send.error.canceled"},
		{errStrict, "send.error.strict"},
		{draft.ErrNotFound, "send.gone"},
		{tasks.ErrRedisFull, "send.error.full"},
	} {
		if errors.Is(err, known.err) {
			return known.text
		}
	}
	return "send.error.redis"
}
