package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/tasks"
)

// copiesPage is the number of archived copies per page.
const copiesPage = 100

// archives cleans the archives and the completed tasks of the queues whose names have our format.
func (p *pass) archives(ctx context.Context) error {
	queues, err := p.rdb.SMembers(ctx, asynqwire.Queues).Result()
	if err != nil {
		return fmt.Errorf("list the queues: %w", err)
	}
	if err := p.pace(ctx, 1, 0); err != nil {
		return err
	}
	slices.Sort(queues)
	for _, queue := range queues {
		if app, _, _, ok := tasks.ParseQueue(queue); ok {
			if err := p.archive(ctx, app, queue); err != nil {
				return err
			}
			if err := p.completed(ctx, queue); err != nil {
				return err
			}
		}
	}
	return nil
}

// listQueues adds the queues that have tasks to asynq's set. A producer that has used a queue
// before it was deleted in the web UI continues to enqueue into it without adding it again.
func (p *pass) listQueues(ctx context.Context) error {
	if !p.cfg.Repair {
		return nil
	}
	for some := range slices.Chunk(slices.Collect(maps.Keys(p.queues)), tasksPerExists) {
		if err := p.rdb.SAdd(ctx, asynqwire.Queues, toAny(some)...).Err(); err != nil {
			return fmt.Errorf("list the queues: %w", err)
		}
	}
	return nil
}

func toAny(texts []string) []any {
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
	}
	return values
}

// archive deletes the copies of a queue's archive that are older than the retention and whose
// task has no outcome in the ledger: its record has expired, or an operator archived it by hand
// while it waited.
func (p *pass) archive(ctx context.Context, app, queue string) error {
	now, err := p.now(ctx)
	if err != nil {
		return err
	}
	before := now.Add(-p.cfg.Retention).Unix()
	commands := 1
	for kept := int64(0); ; {
		copies, err := p.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: asynqwire.Key(queue, asynqwire.Archived), ByScore: true, Start: "-inf", Stop: strconv.FormatInt(before, 10), Offset: kept, Count: copiesPage,
		}).Result()
		if commands++; err != nil {
			return fmt.Errorf("read the archive of %s: %w", queue, err)
		}
		if len(copies) == 0 {
			return p.pace(ctx, commands, 0)
		}
		ids := make([]string, len(copies))
		for i, taskID := range copies {
			ids[i] = strings.TrimPrefix(taskID, app+":") // ids of plain asynq clients have no prefix
		}
		ended, err := p.ledger.Ended(ctx, app, ids)
		if commands += len(ids) / 10; err != nil {
			return err
		}
		for i, taskID := range copies {
			if ended[i] {
				kept++
				continue
			}
			p.report.Archived++
			deleted := false
			if p.cfg.Repair {
				if deleted, err = p.deleteCopy(ctx, queue, taskID, before); err != nil {
					return err
				}
			}
			if deleted {
				p.report.Deleted++
			} else {
				kept++
			}
		}
		if err := p.pace(ctx, commands, len(copies)); err != nil {
			return err
		}
		commands = 0
	}
}

func (p *pass) deleteCopy(ctx context.Context, queue, taskID string, before int64) (bool, error) {
	deleted, err := asynqwire.DeleteArchived(ctx, p.rdb, queue, taskID, before)
	if err != nil {
		return false, fmt.Errorf("delete an archived copy of %s: %w", queue, err)
	}
	return deleted, nil
}

// completed deletes a queue's completed tasks past their retention.
func (p *pass) completed(ctx context.Context, queue string) error {
	for deleted := copiesPage; p.cfg.Repair && deleted == copiesPage; {
		now, err := p.now(ctx)
		if err != nil {
			return err
		}
		deleted, err = asynqwire.DeleteCompleted(ctx, p.rdb, queue, now.Unix(), copiesPage)
		if err != nil {
			return fmt.Errorf("delete completed tasks of %s: %w", queue, err)
		}
		if err := p.pace(ctx, 2, deleted); err != nil {
			return err
		}
	}
	return nil
}
