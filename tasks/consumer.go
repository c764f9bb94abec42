package tasks

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// ConsumerConfig configures a [Consumer]. Only Group is required.
type ConsumerConfig struct {
	// Group is the name of the consumer group. The consumers of one name share the results;
	// each group gets all of them.
	Group string
	// Apps are the apps whose results are consumed. Default: all, also those for which a
	// task is enqueued later.
	Apps []string
	// Name is the consumer's name, unique within the group. Default: the host's name and
	// random digits. A process that keeps its name gets what its last run left without
	// waiting for ClaimIdle.
	Name string
	// FromNow makes a new group begin with the results that are recorded from now on.
	// Default: with the oldest one that is kept. It has no effect on a group that exists.
	FromNow bool
	// Batch is the maximum number of results that are read at once. If so many results
	// have failed and wait for another delivery, the consumer reads no new ones of that
	// app. Default 100.
	Batch int
	// ClaimIdle is how long nothing has been heard of a consumer when the others take over
	// its results. A function may take longer than this. Default 1 minute.
	ClaimIdle time.Duration
	// Backoff is the pause before a failed result is delivered again. It doubles with each
	// failure, up to 5 minutes. Default 1 second.
	Backoff time.Duration
	// MaxDeliveries is how often a result is delivered, whether its function fails or its
	// consumer dies, before OnDead gets it. Default 20: about an hour.
	MaxDeliveries int
	// OnDead gets a result that could not be processed. The group is done with it if
	// OnDead returns nil, else OnDead is called again later. Default: it is logged as an
	// error, without its contents. The result can still be read with [Client.Result].
	OnDead func(DeadResult) error
	// OnLost is called when results were removed from the stream before the group
	// processed them. They are logged as well. Default: logged only.
	OnLost func(LostResults)
	// Log is the logger. Default: slog.Default().
	Log *slog.Logger
}

// A DeadResult is a result that a consumer group gives up; see [ConsumerConfig].
type DeadResult struct {
	App        string
	Entry      string // id of the entry in the app's stream
	Result     Result // the zero Result if it cannot be decoded
	Deliveries int
	Err        error // of the function, or of decoding, or ErrConsumerDied
}

// ErrConsumerDied is the error of a result that is given up without another call of the function:
// its consumer died in the last delivery, or OnDead has failed before.
var ErrConsumerDied = errors.New("tasks: the consumer died")

// LostResults says that results of an app were removed from its stream before a group processed
// them: because the group is further behind than results.retention or results.stream_max_len
// allows; or that Redis has lost the group, and with it perhaps results. Their records may still
// exist, see [Client.Result].
type LostResults struct {
	App         string
	After, Upto time.Time // when they were recorded; zero if Redis has lost the group
	// Pending is the number of results if they had been delivered and not yet processed. It
	// is 0 if they had not been delivered: their number is unknown.
	Pending int
}

// Consumer processes the results of apps as one of the consumers of a group:
//
//   - Each result is processed by one of the consumers, and at least once. It is acknowledged
//     after the function has returned nil. If the consumer dies before, another one gets it; so
//     the function must be able to process a result twice.
//   - A result whose function fails is delivered again, later and later. The results after it
//     do not wait for it.
//   - An outcome that replaces "unknown" is a result of its own, with Result.Supersedes, as is
//     the outcome of each redrive.
//   - After a failure of Redis the consumer continues. If Redis has lost the group, it begins
//     again with the oldest result that is kept.
//
// Create it with NewConsumer.
type Consumer struct {
	rdb redis.UniversalClient
	cfg ConsumerConfig
	log *slog.Logger
}

const (
	appsInterval  = 5 * time.Second // between two looks for new apps
	ackInterval   = 100 * time.Millisecond
	maxClaimPause = time.Second
	groupTimeout  = 3 * time.Second // of calls that must not end with ctx
	forgetAfter   = time.Hour       // unused consumers are deleted
	minReadPause  = 200 * time.Millisecond
	maxReadPause  = 5 * time.Second
)

// NewConsumer returns a Consumer, or an error that names each invalid field. It does no I/O. The
// caller closes rdb after Run has returned.
func NewConsumer(rdb redis.UniversalClient, cfg ConsumerConfig) (*Consumer, error) {
	var faults []error
	if cfg.Group == "" || strings.ContainsAny(cfg.Group, " \r\n\t") {
		faults = append(faults, fmt.Errorf("the Group %q is not a name without blanks", cfg.Group))
	}
	for _, app := range cfg.Apps {
		if !ValidApp(app) {
			faults = append(faults, fmt.Errorf("%q in Apps is not an app id", app))
		}
	}
	if cfg.Batch < 0 || cfg.Batch > 10_000 {
		faults = append(faults, fmt.Errorf("the Batch %d is not between 1 and 10000", cfg.Batch))
	}
	if cfg.ClaimIdle < 0 || cfg.Backoff < 0 || cfg.MaxDeliveries < 0 {
		faults = append(faults, errors.New("one of ClaimIdle, Backoff and MaxDeliveries is negative"))
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("tasks: invalid ConsumerConfig: %w", errors.Join(faults...))
	}
	cfg.Batch, cfg.ClaimIdle = cmp.Or(cfg.Batch, 100), cmp.Or(cfg.ClaimIdle, time.Minute)
	cfg.Backoff, cfg.MaxDeliveries = cmp.Or(cfg.Backoff, time.Second), cmp.Or(cfg.MaxDeliveries, 20)
	if cfg.Name == "" {
		host, _ := os.Hostname()
		cfg.Name = host + "-" + strings.ToLower(rand.Text()[:10])
	}
	return &Consumer{rdb: rdb, cfg: cfg, log: cmp.Or(cfg.Log, slog.Default())}, nil
}

// Consume processes the results of all apps until ctx ends, as one of the consumers of a group.
// It is [Consumer.Run] with the defaults of [ConsumerConfig].
func (c *Client) Consume(ctx context.Context, group string, process func(Result) error) error {
	consumer, err := NewConsumer(c.rdb, ConsumerConfig{Group: group})
	if err != nil {
		return err
	}
	return consumer.Run(ctx, process)
}

// Run processes results until ctx ends. It then waits for the calls of process that have begun,
// acknowledges them, and returns nil: about a second later if process is idle. For each app it
// needs one connection of the client's pool, and calls process for one result after the other;
// for several apps, concurrently.
//
// An error of Redis does not end Run: it logs a warning, and tries again.
func (c *Consumer) Run(ctx context.Context, process func(Result) error) error {
	var all sync.WaitGroup
	defer all.Wait()
	start, ok := c.start(ctx)
	if !ok {
		return nil
	}
	running := make(map[string]bool)
	for {
		apps, err := c.apps(ctx)
		if err != nil && ctx.Err() == nil {
			c.log.Warn("cannot list the apps", slog.Any("err", err))
		}
		for _, app := range apps {
			if !running[app] {
				running[app] = true
				a := c.newAppConsumer(app, start, process)
				all.Go(func() { a.run(ctx) })
			}
		}
		if !pause(ctx, appsInterval) {
			return nil
		}
	}
}

// start returns the position at which a new group begins.
func (c *Consumer) start(ctx context.Context) (position string, ok bool) {
	if !c.cfg.FromNow {
		return "0-0", true
	}
	for wait := minReadPause; ; wait = min(2*wait, maxReadPause) {
		now, err := c.rdb.Time(ctx).Result()
		if err == nil {
			return string(Since(now)), true
		}
		if ctx.Err() == nil {
			c.log.Warn("cannot read Redis' time", slog.Any("err", err))
		}
		if !pause(ctx, wait) {
			return "", false
		}
	}
}

func (c *Consumer) apps(ctx context.Context) ([]string, error) {
	if len(c.cfg.Apps) > 0 {
		return c.cfg.Apps, nil
	}
	return c.rdb.SMembers(ctx, ledger.AppsKey).Result()
}

// pause waits, and returns false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

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
				pause(ctx, minReadPause)
			}
		default:
			a.log.Warn("cannot consume results; trying again", slog.Any("err", err))
			pause(ctx, wait)
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
		pause(ctx, wait)
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

// handleAll processes entries until ctx ends, and acknowledges those that are done. While it does, it tells the
// group now and then that this consumer lives.
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
		for pause(ctx, a.cfg.ClaimIdle/3) {
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
