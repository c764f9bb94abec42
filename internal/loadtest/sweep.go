package loadtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

const sweepPage = 1000

// sweep deletes the keys of a run, and nothing else: those with the app's id, and the entries of the
// asynq servers with the given process ids on this machine.
func sweep(ctx context.Context, rdb redis.UniversalClient, app string, pids []int) error {
	var faults []error
	for _, pattern := range []string{"wxcourier:{" + app + "}:*", asynqwire.KeyPattern(app + ":")} {
		faults = append(faults, sweepKeys(ctx, rdb, pattern))
	}
	faults = append(faults,
		rdb.SRem(ctx, ledger.AppsKey, app).Err(),
		sweepQueues(ctx, rdb, app),
		sweepServers(ctx, rdb, pids),
	)
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("delete the keys of app %s: %w", app, err)
	}
	return nil
}

func sweepKeys(ctx context.Context, rdb redis.UniversalClient, pattern string) error {
	for cursor := uint64(0); ; {
		keys, next, err := rdb.Scan(ctx, cursor, pattern, sweepPage).Result()
		if err != nil {
			return err
		}
		if len(keys) > 0 {
			if err := rdb.Unlink(ctx, keys...).Err(); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func sweepQueues(ctx context.Context, rdb redis.UniversalClient, app string) error {
	queues, err := rdb.SMembers(ctx, asynqwire.Queues).Result()
	if err != nil {
		return err
	}
	ours := slices.DeleteFunc(queues, func(q string) bool { return !strings.HasPrefix(q, app+":") })
	if len(ours) == 0 {
		return nil
	}
	return rdb.SRem(ctx, asynqwire.Queues, ours).Err()
}

// sweepServers deletes the entries of workers that were killed.
func sweepServers(ctx context.Context, rdb redis.UniversalClient, pids []int) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	for _, set := range []string{asynqwire.Servers, asynqwire.Workers} {
		all, err := rdb.ZRange(ctx, set, 0, -1).Result()
		if err != nil {
			return err
		}
		for _, key := range all {
			if !slices.ContainsFunc(pids, func(pid int) bool {
				return strings.HasPrefix(key, asynqwire.ServerKeyPrefix(set, host, pid))
			}) {
				continue
			}
			if err := errors.Join(rdb.ZRem(ctx, set, key).Err(), rdb.Del(ctx, key).Err()); err != nil {
				return err
			}
		}
	}
	return nil
}
