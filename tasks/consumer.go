package tasks

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
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
	// NoReceipts leaves out receipts ([Result.IsReceipt]): the group is done with them at once.
	// Default: they are results like others.
	NoReceipts bool
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
//   - A receipt, which says later what became of an accepted message, is a result of its own too. It
//     supplements an outcome and is none: see [Result.IsReceipt], and ConsumerConfig.NoReceipts.
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
	appsInterval = 5 * time.Second // between two looks for new apps
	minReadPause = 200 * time.Millisecond
	maxReadPause = 5 * time.Second
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
		if !background.Sleep(ctx, appsInterval) {
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
		if !background.Sleep(ctx, wait) {
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
