package wxcouriertest

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

const (
	// appSecret is the secret of every app.
	appSecret = "secret"
	// closeTimeout bounds what a replica writes to Redis at its end.
	closeTimeout = 3 * time.Second
	// forwardEvery is how often the scheduled tasks are compared with a clock that is ahead.
	forwardEvery = 50 * time.Millisecond
)

// replica is a running worker with its parts.
type replica struct {
	rdb     *redis.Client
	tokens  *wechat.Tokens
	client  *wechat.Client
	limiter *ratelimit.Limiter
	cancel  context.CancelFunc
	done    sync.WaitGroup
	err     error // of the worker; read after done
}

// newReplica starts a worker. It begins with no state of its own, so that the clock may have
// moved since the last one ended.
func (k *Kit) newReplica() (*replica, error) {
	cfg := wechat.DefaultConfig()
	cfg.BaseURL, cfg.Timeout, cfg.AttemptTimeout = k.wechatURL, k.opts.CallTimeout, 2*k.opts.CallTimeout
	log := slog.New(slog.NewTextHandler(k.log, nil))
	r := &replica{rdb: k.newRedis()}
	r.tokens = wechat.NewTokens(cfg, r.rdb, func(app string) (wechat.Credential, bool) {
		return wechat.Credential{App: app, Secret: appSecret}, true
	}, wechat.WithLogger(log), wechat.WithClock(k.Now))
	r.client = wechat.NewClient(cfg, r.tokens)
	r.limiter = ratelimit.NewLimiter(r.rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return k.opts.Limits })

	workerCfg := worker.DefaultConfig()
	workerCfg.Attempts, workerCfg.ShutdownTimeout = k.opts.Attempts, cfg.AttemptTimeout+10*time.Second
	w, err := worker.New(workerCfg, worker.Deps{
		Redis: r.rdb, WeChat: r.client, Limiter: r.limiter, Apps: k.opts.Apps,
		Results: worker.DefaultResultsConfig(), Attempt: cfg.AttemptTimeout, Logger: log, Clock: k.Now,
	}, worker.Hooks{OnResult: k.results.add})
	if err != nil {
		r.close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.done.Go(func() { r.err = w.Run(ctx) })
	r.done.Go(func() { k.forwardScheduled(ctx) })
	return r, nil
}

// stop stops the worker and closes its parts.
func (r *replica) stop() error {
	r.cancel()
	r.done.Wait()
	if r.err != nil {
		return r.err // asynq still uses the parts
	}
	r.close()
	return nil
}

func (r *replica) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = r.limiter.Close(ctx) // the leases of a limiter that cannot return them expire
	r.tokens.Close()
	r.client.CloseIdle()
	_ = r.rdb.Close()
}

// forwardScheduled moves scheduled tasks that are due by the kit's clock to pending, until ctx
// ends. asynq's own forwarder does so by real time.
func (k *Kit) forwardScheduled(ctx context.Context) {
	ticker := time.NewTicker(forwardEvery)
	defer ticker.Stop()
	for {
		if k.ahead.Load() > 0 {
			_ = k.runDue(ctx, asynqwire.Scheduled, k.Now()) // the next round repeats what failed
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// runDue moves the tasks of all queues that are due in one of asynq's sorted sets to pending.
func (k *Kit) runDue(ctx context.Context, set string, now time.Time) error {
	queues, err := k.rdb.SMembers(ctx, asynqwire.Queues).Result()
	if err != nil {
		return fmt.Errorf("list the queues: %w", err)
	}
	inspector := asynq.NewInspectorFromRedisClient(k.rdb)
	for _, queue := range queues {
		due, err := k.rdb.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: asynqwire.Key(queue, set), Start: "-inf", Stop: now.Unix(), ByScore: true,
		}).Result()
		if err != nil {
			return fmt.Errorf("read the tasks that are due: %w", err)
		}
		for _, id := range due {
			_ = inspector.RunTask(queue, id) // fails when asynq has just moved it
		}
		if len(due) > 0 {
			_ = k.rdb.Publish(ctx, ledger.WakeChannel, queue).Err() // the worker also polls
		}
	}
	return nil
}
