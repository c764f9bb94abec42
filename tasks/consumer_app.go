package tasks

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

const (
	ackInterval   = 100 * time.Millisecond
	maxClaimPause = time.Second
	groupTimeout  = 3 * time.Second // of calls that must not end with ctx
	forgetAfter   = time.Hour       // unused consumers are deleted
)

// appConsumer consumes the results of one app. All but batch belong to the goroutine of run.
type appConsumer struct {
	*Consumer
	app     string
	start   string
	process func(Result) error
	log     *slog.Logger
	group   *ledger.Group

	joined    bool // the group existed, or was created, before
	failing   bool // some results of this consumer may wait for another delivery
	nextClaim time.Time
	acks      []string // processed entries that are not acknowledged yet
	lastAck   time.Time
	batch     batch
}

func (c *Consumer) newAppConsumer(app, start string, process func(Result) error) *appConsumer {
	return &appConsumer{
		Consumer: c, app: app, start: start, process: process, failing: true,
		log: c.log.With(slog.String("app", app), slog.String("group", c.cfg.Group)),
		group: ledger.NewGroup(c.rdb, ledger.GroupConfig{
			App: app, Group: c.cfg.Group, Consumer: c.cfg.Name, ClaimIdle: c.cfg.ClaimIdle, Backoff: c.cfg.Backoff,
		}),
	}
}

func (a *appConsumer) run(ctx context.Context) {
	defer a.leave(ctx)
	for wait := minReadPause; ctx.Err() == nil; {
		err := a.pass(ctx)
		switch {
		case err == nil:
			wait = minReadPause
		case ctx.Err() != nil:
		case errors.Is(err, ledger.ErrNoGroup):
			if !a.create(ctx) {
				background.Sleep(ctx, minReadPause)
			}
		default:
			a.log.Warn("cannot consume results; trying again", slog.Any("err", err))
			background.Sleep(ctx, wait)
			wait = min(2*wait, maxReadPause)
		}
	}
}

// create creates the group. One that existed before and is gone begins with the oldest result,
// since it is unknown how far it was.
func (a *appConsumer) create(ctx context.Context) (ok bool) {
	at := a.start
	if a.joined {
		at = "0-0"
	}
	created, err := a.group.Create(ctx, at)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("cannot create the consumer group", slog.Any("err", err))
		}
		return false
	}
	if created && a.joined {
		a.log.Warn("the consumer group is gone; it was created again, and begins with the oldest result that is kept")
		if a.cfg.OnLost != nil {
			a.cfg.OnLost(LostResults{App: a.app})
		}
	}
	a.joined, a.acks = true, nil
	return true
}

// pass processes the results that are due, then new ones.
func (a *appConsumer) pass(ctx context.Context) error {
	if !a.joined {
		return ledger.ErrNoGroup
	}
	if err := a.flush(ctx); err != nil {
		return err
	}
	if !time.Now().Before(a.nextClaim) {
		if more, err := a.claim(ctx); err != nil || more {
			return err
		}
		a.nextClaim = time.Now().Add(min(a.cfg.Backoff, maxClaimPause))
	}
	wait := max(time.Until(a.nextClaim), time.Millisecond)
	if full, err := a.full(ctx); err != nil || full {
		background.Sleep(ctx, wait)
		return err
	}
	return a.read(ctx, wait)
}

// claim processes results of earlier deliveries. It returns true if there may be more.
func (a *appConsumer) claim(ctx context.Context) (more bool, err error) {
	all, removed, err := a.group.Claim(ctx, a.cfg.Batch)
	if err != nil {
		return false, err
	}
	if len(removed) > 0 {
		a.lost(LostResults{
			App: a.app, Pending: len(removed),
			After: ledger.EntryTime(removed[0]), Upto: ledger.EntryTime(removed[len(removed)-1]),
		})
	}
	return len(all) == a.cfg.Batch, a.handleAll(ctx, all)
}

// full reports whether so many results wait for another delivery that no new ones are read.
func (a *appConsumer) full(ctx context.Context) (bool, error) {
	if !a.failing {
		return false, nil
	}
	n, err := a.group.Pending(ctx, a.cfg.Batch)
	a.failing = n > 0 || err != nil
	return n >= a.cfg.Batch, err
}

// read processes new results.
func (a *appConsumer) read(ctx context.Context, wait time.Duration) error {
	position, err := a.group.Position(ctx)
	if err != nil {
		return err
	}
	all, err := a.group.Read(ctx, a.cfg.Batch, wait)
	if err != nil || len(all) == 0 {
		return err
	}
	a.checkCut(ctx, position, all[0].ID)
	return a.handleAll(ctx, all)
}

// checkCut reports results that were removed after the group's position and before the entry
// that it then got. A new group at the beginning takes what there is.
func (a *appConsumer) checkCut(ctx context.Context, position, next string) {
	if position == "0-0" {
		return
	}
	cut, err := ledger.New(a.rdb, ledger.Policy{}).Cut(ctx, a.app)
	if err != nil {
		a.log.Warn("cannot check whether results were removed", slog.Any("err", err))
		return
	}
	if cut.After(position) {
		a.lost(LostResults{App: a.app, After: ledger.EntryTime(position), Upto: ledger.EntryTime(next)})
	}
}

func (a *appConsumer) lost(l LostResults) {
	a.log.Warn("results were removed from the stream before this group processed them",
		slog.Int("pending", l.Pending), slog.Time("after", l.After), slog.Time("upto", l.Upto))
	if a.cfg.OnLost != nil {
		a.cfg.OnLost(l)
	}
}

// handleAll processes entries until ctx ends, and acknowledges those that are done. Meanwhile it
// tells the group now and then that this consumer lives.
func (a *appConsumer) handleAll(ctx context.Context, all []ledger.Delivery) error {
	if len(all) == 0 {
		return nil
	}
	a.batch.set(all)
	stop := a.keepAlive(ctx)
	defer stop()
	var failed error
	for _, d := range all {
		if ctx.Err() != nil {
			break
		}
		if a.handle(d) {
			a.acks = append(a.acks, d.ID)
		}
		a.batch.next()
		if failed == nil && time.Since(a.lastAck) > ackInterval {
			failed = a.flush(ctx)
		}
	}
	return errors.Join(failed, a.flush(ctx))
}

// handle processes one result, and returns whether the group is done with it.
func (a *appConsumer) handle(d ledger.Delivery) bool {
	dead := DeadResult{App: a.app, Entry: d.ID, Deliveries: d.Deliveries}
	if dead.Result, dead.Err = decodeResult([]byte(d.Result)); dead.Err != nil {
		return a.giveUp(dead) // another delivery would not help
	}
	if a.cfg.NoReceipts && dead.Result.IsReceipt() {
		return true
	}
	if d.Deliveries > a.cfg.MaxDeliveries {
		dead.Deliveries, dead.Err = d.Deliveries-1, ErrConsumerDied
		return a.giveUp(dead)
	}
	if dead.Err = a.process(dead.Result); dead.Err == nil {
		return true
	}
	if d.Deliveries >= a.cfg.MaxDeliveries {
		return a.giveUp(dead)
	}
	a.failing = true
	a.log.Debug("a result was not processed; it is delivered again",
		slog.String("id", dead.Result.ID), slog.Int("deliveries", d.Deliveries), slog.Any("err", dead.Err))
	return false
}

// giveUp hands over a result that could not be processed.
func (a *appConsumer) giveUp(dead DeadResult) bool {
	log := a.log.With(slog.String("id", dead.Result.ID), slog.String("entry", dead.Entry), slog.Int("deliveries", dead.Deliveries))
	if a.cfg.OnDead == nil {
		log.Error("a result could not be processed and is given up", slog.Any("err", dead.Err))
		return true
	}
	err := a.cfg.OnDead(dead)
	if err != nil {
		a.failing = true
		log.Warn("a result could not be given up; trying again", slog.Any("err", err))
	}
	return err == nil
}

// flush acknowledges the processed entries. It does not end with ctx, so that what was processed
// is not delivered again.
func (a *appConsumer) flush(ctx context.Context) error {
	if len(a.acks) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupTimeout)
	defer cancel()
	a.lastAck = time.Now()
	if err := a.group.Ack(ctx, a.acks...); err != nil {
		return err
	}
	a.acks = a.acks[:0]
	return nil
}

// keepAlive tells the group that this consumer still has the rest of the batch, until stop is
// called.
func (a *appConsumer) keepAlive(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done sync.WaitGroup
	done.Go(func() {
		for background.Sleep(ctx, a.cfg.ClaimIdle/3) {
			if err := a.group.Extend(ctx, a.batch.left(), 0); err != nil && ctx.Err() == nil {
				a.log.Debug("cannot keep results", slog.Any("err", err))
			}
		}
	})
	return func() { cancel(); done.Wait() }
}

// leave gives what is left of the batch back to the other consumers, and deletes this consumer
// and others that died, if they have no entries.
func (a *appConsumer) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), groupTimeout)
	defer cancel()
	_ = a.flush(ctx) // else they are delivered again
	_ = a.group.Extend(ctx, a.batch.left(), a.cfg.ClaimIdle)
	_ = a.group.Forget(ctx, forgetAfter, true)
}

// batch is the entries that handleAll processes.
type batch struct {
	mu  sync.Mutex
	ids []string // guarded by mu: those that are not processed yet
}

func (b *batch) set(all []ledger.Delivery) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = b.ids[:0]
	for _, d := range all {
		b.ids = append(b.ids, d.ID)
	}
}

func (b *batch) next() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = b.ids[1:]
}

func (b *batch) left() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}
