package worker

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/reconcile"
	"github.com/wxcourier/wxcourier/tasks"
)

// sweepKey is the key of the lease of the replica that sweeps. Private.
const sweepKey = "wxcourier:sweep"

// One replica sweeps at a time, with a few commands a second. With ten million waiting tasks
// a pass takes some hours.
const (
	sweepEvery        = 5 * time.Minute // between two passes, and between two attempts to get the lease
	sweepLease        = 3 * time.Minute
	commandsPerSecond = 4
	endingsPerSecond  = 50             // tasks that are ended, each by some commands
	maxSweepPause     = sweepLease / 3 // between two renewals of the lease
)

// errNotSweeper means that another replica has the lease.
var errNotSweeper = errors.New("another replica sweeps")

// sweeper ends tasks that were deleted in the asynq web UI, and deletes archived copies past
// the retention; see package reconcile.
type sweeper struct {
	sweeperDeps
	every    time.Duration
	config   reconcile.Config
	throttle logThrottle
}

type sweeperDeps struct {
	replica              string
	rdb                  redis.UniversalClient
	ledger               *ledger.Ledger
	deadAfter, retention time.Duration
	onEnded              func(tasks.Result) // called for each task that a pass ended
	log                  *slog.Logger
}

func newSweeper(deps sweeperDeps) *sweeper {
	s := &sweeper{sweeperDeps: deps, every: sweepEvery}
	s.config = reconcile.Config{
		MinAge: reconcile.MinAge, Confirm: reconcile.Confirm, DeadAfter: deps.deadAfter, Retention: deps.retention,
		Repair: true, Pace: s.pace, OnEnded: deps.onEnded,
	}
	return s
}

// run makes passes until ctx ends, while this replica has the lease.
func (s *sweeper) run(ctx context.Context) {
	reconciler := reconcile.New(s.rdb, s.ledger, s.config)
	for background.Sleep(ctx, s.every) {
		if s.renewLease(ctx) != nil {
			continue
		}
		report, err := reconciler.Pass(ctx)
		if err != nil && ctx.Err() == nil && !errors.Is(err, errNotSweeper) && s.throttle.allow("sweep", time.Now()) {
			s.log.Warn("the sweep failed; the next one starts from the beginning", slog.Any("err", err))
		}
		if report.Ended > 0 {
			s.log.Warn("tasks were deleted from asynq; they ended as canceled, or as unknown where a request may have been written",
				slog.Int("tasks", report.Ended), slog.String("reason", reconcile.Reason))
		}
		if report.Deleted > 0 {
			s.log.Debug("archived copies past results.retention were deleted", slog.Int("copies", report.Deleted))
		}
	}
}

// sweepLeaseScript takes or renews the lease.
//
// KEYS[1] lease. ARGV[1] replica, ARGV[2] ms. Returns 1, or 0 when another replica has it.
var sweepLeaseScript = redis.NewScript(`
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return 1
`)

// renewLease takes or renews the lease. It returns errNotSweeper when another replica has it.
func (s *sweeper) renewLease(ctx context.Context) error {
	mine, err := sweepLeaseScript.Run(ctx, s.rdb, []string{sweepKey}, s.replica, sweepLease.Milliseconds()).Bool()
	if err != nil {
		return err
	}
	if !mine {
		return errNotSweeper
	}
	return nil
}

// pace waits for as long as so many commands and ended tasks may take, and renews the lease
// meanwhile.
func (s *sweeper) pace(ctx context.Context, commands, ended int) error {
	left := time.Duration(commands)*time.Second/commandsPerSecond + time.Duration(ended)*time.Second/endingsPerSecond
	for left > 0 {
		pause := min(left, maxSweepPause)
		if !background.Sleep(ctx, pause) {
			return ctx.Err()
		}
		if left -= pause; pause < time.Second && left <= 0 {
			return nil // too short to renew the lease
		}
		if err := s.renewLease(ctx); err != nil {
			return err
		}
	}
	return nil
}
