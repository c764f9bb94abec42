// Package reconcile finds and repairs differences between the ledger and asynq's queues:
//
//   - A task that was deleted in the asynq web UI still has its mark or record, without an
//     expiry: its producer waits, and its batch never ends. It is ended as canceled, with the
//     reason "deleted", or as unknown if a request of it may have been sent.
//   - asynq keeps archived copies, with openid and text, without a time limit. They are deleted
//     after the retention of results. A task that was archived by hand before it ended is then
//     missing, and ended as if it had been deleted: it does not wait for ever.
//   - asynq deletes completed tasks past their retention only in queues that a server works on.
//     Those of other queues are deleted here.
//   - The stream of results of an app without further outcomes keeps its last ones. It is
//     trimmed too.
//   - The index of openids is kept for as long as the results, and while many of a day's tasks wait.
//
// All but the last two need a scan of all keys or queues. A Reconciler makes one such pass, at the pace that
// Config.Pace sets.
package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// Reason is the reason in the result of a task that was missing in asynq.
const Reason = "deleted"

const (
	// MinAge is the minimum age of a mark whose task is checked: producers mark an id before
	// they enqueue the task.
	MinAge = 10 * time.Minute
	// Confirm is how long a task must be missing before it is ended. A producer takes less
	// time from the mark to the queue.
	Confirm = time.Minute
)

// Config configures a Reconciler.
type Config struct {
	MinAge    time.Duration // see the constant
	Confirm   time.Duration // see the constant
	DeadAfter time.Duration // time since its start after which a run counts as dead
	Retention time.Duration // of results
	// Repair enables writes: without it a pass only counts.
	Repair bool
	// Pace is called after some commands, with their number and the number of tasks that they
	// ended. It waits in order to limit the rate. nil: no limit. An error ends the pass.
	Pace func(ctx context.Context, commands, ended int) error
	// Ended is called for each task that was ended. It may be nil.
	OnEnded func(tasks.Result)
}

// Report is the result of one pass.
type Report struct {
	Checked  int // tasks without an outcome that were checked
	Missing  int // of these, tasks that asynq does not have
	Ended    int // of these, tasks that were ended
	Archived int // archived copies past the retention
	Deleted  int // of these, copies that were deleted
}

// Reconciler compares the ledger with asynq's queues. It is for one goroutine.
type Reconciler struct {
	rdb    redis.UniversalClient
	ledger *ledger.Ledger
	cfg    Config
	// suspectApps are the apps of the tasks that the last pass found missing. A pass collects
	// the batches of these apps only.
	suspectApps map[string]bool
}

// New returns a Reconciler. It does no I/O. The ledger's policy sets the retention of tasks that
// are ended.
func New(rdb redis.UniversalClient, l *ledger.Ledger, cfg Config) *Reconciler {
	return &Reconciler{rdb: rdb, ledger: l, cfg: cfg, suspectApps: make(map[string]bool)}
}

// Pass checks all tasks and archives once. With Config.Repair it stores a note for each missing
// task, and ends those that an earlier pass noted Config.Confirm ago: a task is ended in the
// second pass that finds it missing.
func (r *Reconciler) Pass(ctx context.Context) (Report, error) {
	p := &pass{Reconciler: r, batches: make(map[string][]string), missingApps: make(map[string]bool), queues: make(map[string]bool), waiting: make(map[string]map[int64]int)}
	if err := p.archives(ctx); err != nil { // before tasks, which finds what it deletes to be missing
		return p.report, err
	}
	if err := p.tasks(ctx); err != nil {
		return p.report, err
	}
	if err := p.listQueues(ctx); err != nil {
		return p.report, err
	}
	if err := p.streams(ctx); err != nil {
		return p.report, err
	}
	r.suspectApps = p.missingApps
	return p.report, nil
}

// pass is the state of one pass.
type pass struct {
	*Reconciler
	report      Report
	batches     map[string][]string      // by app, of suspectApps
	missingApps map[string]bool          // apps of missing tasks
	queues      map[string]bool          // that have tasks in asynq
	waiting     map[string]map[int64]int // tasks by app and ledger.Day
	confirmed   []ledger.OpenTask        // missing in an earlier pass as well, to be ended; at most maxConfirmed
}

// streams trims the streams of results of all apps, and tends their indexes of openids.
func (p *pass) streams(ctx context.Context) error {
	if !p.cfg.Repair {
		return nil
	}
	apps, err := p.rdb.SMembers(ctx, ledger.AppsKey).Result()
	if err != nil {
		return fmt.Errorf("list the apps: %w", err)
	}
	for _, app := range apps {
		if err := p.ledger.TrimStream(ctx, app); err != nil {
			return err
		}
		now, err := p.now(ctx)
		if err != nil {
			return err
		}
		commands, err := p.ledger.TendOpenIDs(ctx, app, p.waiting[app], now)
		if err != nil {
			return err
		}
		if err := p.pace(ctx, commands+2, 0); err != nil {
			return err
		}
	}
	return nil
}

// maxConfirmed limits the memory of a pass. The next pass ends further tasks.
const maxConfirmed = 10_000

func (p *pass) pace(ctx context.Context, commands, ended int) error {
	if p.cfg.Pace == nil {
		return ctx.Err()
	}
	return p.cfg.Pace(ctx, commands, ended)
}

// now returns Redis' time.
func (p *pass) now(ctx context.Context) (time.Time, error) {
	now, err := p.rdb.Time(ctx).Result()
	if err != nil {
		return time.Time{}, fmt.Errorf("read Redis' time: %w", err)
	}
	return now, nil
}

// nodes returns the servers to scan: the masters of a cluster, or the only server.
func (p *pass) nodes(ctx context.Context) ([]redis.UniversalClient, error) {
	cluster, ok := p.rdb.(*redis.ClusterClient)
	if !ok {
		return []redis.UniversalClient{p.rdb}, nil
	}
	masters := make(chan redis.UniversalClient, 1024) // ForEachMaster calls concurrently
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
