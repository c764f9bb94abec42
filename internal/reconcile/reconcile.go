// Package reconcile finds where the ledger and asynq's queues disagree, and mends it:
//
//   - A task that was deleted in the asynq web UI has its mark or record still, without an
//     expiry: its producer waits, its batch never ends. It is ended as canceled, reason
//     "deleted"; or as unknown, where a request of it may have been written.
//   - asynq keeps archived copies, with openid and text, without end. They are deleted when
//     the retention of results is over.
//
// Both take a walk over all keys or queues. A Reconciler does one such pass, as slowly as it
// is told to.
package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// Reason is that of the outcome of a task that asynq does not have any more.
const Reason = "deleted"

const (
	// MinAge is how old a mark is at least when its task is looked for: producers mark an id
	// before they enqueue it.
	MinAge = 10 * time.Minute
	// Confirm is how long a task must have been missing before it is ended. A producer takes
	// less time from the mark to the queue.
	Confirm = time.Minute
)

// Config is what a Reconciler goes by.
type Config struct {
	MinAge    time.Duration // see the constant
	Confirm   time.Duration // see the constant
	DeadAfter time.Duration // after which a run that said nothing is held to be dead
	Retention time.Duration // of results
	// Repair writes: without it a pass only counts.
	Repair bool
	// Pace is called after some commands were sent, with their number and with how many
	// tasks they ended; it waits as long as they shall take. nil: a pass takes no longer
	// than Redis needs. Its error ends the pass.
	Pace func(ctx context.Context, commands, ended int) error
	// Ended is told of each task that was ended. It may be nil.
	Ended func(tasks.Result)
}

// Report is what one pass has found.
type Report struct {
	Looked   int // tasks without an outcome that were looked for
	Missing  int // of them, those that asynq does not have
	Ended    int // of them, those that were ended
	Archived int // archived copies past the retention
	Deleted  int // of them, those that were deleted
}

// Reconciler compares the ledger with asynq's queues. It is for one goroutine.
type Reconciler struct {
	rdb    redis.UniversalClient
	ledger *ledger.Ledger
	cfg    Config
	// suspects are the apps of the tasks that the last pass found missing. A pass notes the
	// batches of these alone.
	suspectApps map[string]bool
}

// New does no I/O. The ledger's policy says how long what is ended is kept.
func New(rdb redis.UniversalClient, l *ledger.Ledger, cfg Config) *Reconciler {
	return &Reconciler{rdb: rdb, ledger: l, cfg: cfg, suspectApps: make(map[string]bool)}
}

// Pass walks over everything once. With Config.Repair it notes the tasks that are missing,
// and ends those that were noted Config.Confirm ago by a pass before: a task is ended in the
// second pass that finds it missing.
func (r *Reconciler) Pass(ctx context.Context) (Report, error) {
	p := &pass{Reconciler: r, batches: make(map[string][]string), missingApps: make(map[string]bool), queues: make(map[string]bool)}
	if err := p.tasks(ctx); err != nil {
		return p.report, err
	}
	if err := p.archives(ctx); err != nil {
		return p.report, err
	}
	r.suspectApps = p.missingApps
	return p.report, nil
}

// pass is one walk.
type pass struct {
	*Reconciler
	report      Report
	batches     map[string][]string // of the apps of suspects
	missingApps map[string]bool     // apps of missing tasks
	queues      map[string]bool     // that have tasks in asynq
	confirmed   []ledger.OpenTask   // that may be ended, up to ripeMax
}

// maxConfirmed bounds the memory of a pass. The next one ends the others.
const maxConfirmed = 10_000

func (p *pass) pace(ctx context.Context, commands, ended int) error {
	if p.cfg.Pace == nil {
		return ctx.Err()
	}
	return p.cfg.Pace(ctx, commands, ended)
}

// now is Redis' time.
func (p *pass) now(ctx context.Context) (time.Time, error) {
	now, err := p.rdb.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("ask Redis for the time: %w", err)
	}
	return now, nil
}

// nodes are the servers whose keys make up the whole.
func (p *pass) nodes(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster, ok := p.rdb.(*redis.ClusterClient)
	if !ok {
		return []redis.UniversalClient{p.rdb}, nil
	}
	masters := make(chan redis.UniversalClient, 1024) // ForEachMaster calls at the same time
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		masters <- node
		return nil
	})
	close(masters)
	if err != nil {
		return nil, fmt.Errorf("list the masters: %w", err)
	}
	var nodes []redis.UniversalClient
	for node := range masters {
		nodes = append(nodes, node)
	}
	return nodes, nil
}
