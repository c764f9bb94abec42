package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// keysPage is how many keys one SCAN visits, in some 0.3 ms.
	keysPage = 1000
	// tasksPerExists is how many tasks of a queue one EXISTS checks, in some 0.1 ms.
	tasksPerExists = 500
	// endingsPerPause is how many tasks are ended between two pauses.
	endingsPerPause = 50
)

// tasks checks the marks and the records of all apps.
func (p *pass) tasks(ctx context.Context) error {
	nodes, err := p.nodes(ctx)
	if err != nil {
		return err
	}
	for _, node := range nodes {
		for cursor := uint64(0); ; {
			keys, next, err := node.Scan(ctx, cursor, ledger.KeyPattern, keysPage).Result()
			if err != nil {
				return fmt.Errorf("scan the keys: %w", err)
			}
			if err := p.page(ctx, keys); err != nil {
				return err
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return p.endConfirmed(ctx)
}

// page checks the tasks of some keys.
func (p *pass) page(ctx context.Context, keys []string) error {
	open, commands, err := p.open(ctx, keys)
	if err != nil {
		return err
	}
	if commands++; len(open) == 0 { // the SCAN
		return p.pace(ctx, commands, 0)
	}
	now, err := p.now(ctx)
	if err != nil {
		return err
	}
	p.countWaiting(open)
	open = slices.DeleteFunc(open, func(t ledger.OpenTask) bool { return !p.overdue(t, now) })
	p.report.Checked += len(open)
	missing, more, err := p.missing(ctx, open)
	if err != nil {
		return err
	}
	p.report.Missing += len(missing)
	commands += more + 1
	if p.cfg.Repair {
		if err := p.suspect(ctx, missing, now); err != nil {
			return err
		}
		commands += len(missing) / 10
	}
	return p.pace(ctx, commands, 0)
}

// countWaiting counts tasks without an outcome by their app and the day on which they were enqueued.
func (p *pass) countWaiting(open []ledger.OpenTask) {
	for _, t := range open {
		if p.waiting[t.App] == nil {
			p.waiting[t.App] = make(map[int64]int)
		}
		p.waiting[t.App][ledger.Day(t.Enqueued)]++
	}
}

// open reads the tasks without an outcome from some keys. It also returns the number of commands
// sent.
func (p *pass) open(ctx context.Context, keys []string) (open []ledger.OpenTask, commands int, err error) {
	records := make(map[string][]string)
	for _, key := range keys {
		app, kind, name := ledger.ParseKey(key)
		switch kind {
		case ledger.MarksKey:
			marks, n, err := p.ledger.OpenMarks(ctx, app, key)
			if commands += n; err != nil {
				return nil, commands, err
			}
			open = append(open, marks...)
		case ledger.RecordKey:
			records[app] = append(records[app], name)
		case ledger.BatchIDKey:
			if p.suspectApps[app] {
				p.batches[app] = append(p.batches[app], name)
			}
		case ledger.OtherKey:
		}
	}
	for app, ids := range records {
		for some := range slices.Chunk(ids, ledger.RecordsAtOnce) {
			more, err := p.ledger.OpenRecords(ctx, app, some)
			if commands++; err != nil {
				return nil, commands, err
			}
			open = append(open, more...)
		}
	}
	return open, commands, nil
}

// overdue reports whether a task counts as missing if asynq does not have it: it was enqueued
// MinAge ago, and no live run has it.
func (p *pass) overdue(t ledger.OpenTask, now time.Time) bool {
	return now.Sub(t.Enqueued) >= p.cfg.MinAge && (t.RunSince.IsZero() || now.Sub(t.RunSince) >= p.cfg.DeadAfter)
}

// missing returns the tasks that asynq does not have in any state, and the number of commands
// sent.
func (p *pass) missing(ctx context.Context, open []ledger.OpenTask) (missing []ledger.OpenTask, commands int, err error) {
	queues := make(map[string][]ledger.OpenTask)
	for _, t := range open {
		if _, _, _, ok := tasks.ParseQueue(t.Queue); ok {
			queues[t.Queue] = append(queues[t.Queue], t)
		}
	}
	for _, all := range queues {
		for some := range slices.Chunk(all, tasksPerExists) {
			keys := make([]string, len(some))
			for i, t := range some {
				keys[i] = asynqwire.TaskKey(t.Queue, t.App+":"+t.ID)
			}
			n, err := p.rdb.Exists(ctx, keys...).Result()
			if commands++; err != nil {
				return nil, commands, fmt.Errorf("look for tasks in asynq: %w", err)
			}
			if n > 0 {
				p.queues[some[0].Queue] = true
			}
			if n == int64(len(keys)) {
				continue // the usual case
			}
			each := make([]*redis.IntCmd, len(keys))
			_, err = p.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
				for i, key := range keys {
					each[i] = pipe.Exists(ctx, key)
				}
				return nil
			})
			if commands += len(keys) / 10; err != nil {
				return nil, commands, fmt.Errorf("look for tasks in asynq: %w", err)
			}
			for i, reply := range each {
				if reply.Val() == 0 {
					missing = append(missing, some[i])
				}
			}
		}
	}
	return missing, commands, nil
}

// suspect stores the note for missing tasks without one, and adds those that were noted Confirm
// ago to p.confirmed.
func (p *pass) suspect(ctx context.Context, missing []ledger.OpenTask, now time.Time) error {
	var fresh []ledger.OpenTask
	for _, t := range missing {
		p.missingApps[t.App] = true
		switch {
		case t.Missing.Sub(t.Enqueued) < p.cfg.MinAge: // no note, or that of an earlier task with this id
			fresh = append(fresh, t)
		case now.Sub(t.Missing) >= p.cfg.Confirm && p.suspectApps[t.App] && len(p.confirmed) < maxConfirmed:
			p.confirmed = append(p.confirmed, t)
		}
	}
	for some := range slices.Chunk(fresh, tasksPerExists) {
		if err := p.ledger.Suspect(ctx, some, now); err != nil {
			return err
		}
	}
	return nil
}

// endConfirmed ends the tasks that were missing in this pass and in an earlier one.
func (p *pass) endConfirmed(ctx context.Context) error {
	byApp := make(map[string][]ledger.OpenTask)
	for _, t := range p.confirmed {
		byApp[t.App] = append(byApp[t.App], t)
	}
	for app, all := range byApp {
		for some := range slices.Chunk(all, endingsPerPause) {
			some, commands, err := p.missing(ctx, some) // check again, since the scan took some time
			if err != nil {
				return err
			}
			ids := make([]string, len(some))
			for i, t := range some {
				ids[i] = t.ID
			}
			batches, more, err := p.ledger.BatchOf(ctx, app, ids, p.batches[app])
			if err != nil {
				return err
			}
			for _, t := range some {
				if err := p.end(ctx, t, batches[t.ID]); err != nil {
					return err
				}
			}
			if err := p.pace(ctx, commands+more, len(some)); err != nil {
				return err
			}
		}
	}
	return nil
}

// end settles one missing task.
func (p *pass) end(ctx context.Context, t ledger.OpenTask, batch string) error {
	_, typ, _, _ := tasks.ParseQueue(t.Queue)
	result := tasks.Result{
		ID: t.ID, App: t.App, Type: typ, Batch: batch, State: tasks.StateDone,
		Outcome: tasks.OutcomeCanceled, Reason: Reason, Attempts: t.Attempts, Generation: t.Generation,
		EnqueuedAt: t.Enqueued, FinishedAt: time.Now().UTC(),
	}
	if t.Doubt {
		result.Outcome = tasks.OutcomeUnknown
	}
	free := !t.Doubt && !t.Canceled
	written, err := p.ledger.EndMissing(ctx, t, batch, ledger.SettleRequest{Outcome: string(result.Outcome), Result: result.Encode()}, free)
	if err != nil || !written {
		return err
	}
	p.report.Ended++
	if p.cfg.OnEnded != nil {
		p.cfg.OnEnded(result)
	}
	return nil
}
