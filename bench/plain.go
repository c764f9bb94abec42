package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/bench/standin"
	"github.com/wxcourier/wxcourier/tasks"
)

// The pattern of asynq's wiki (https://github.com/hibiken/asynq/wiki/Rate-Limiting), with redis_rate
// in place of the wiki's in-process limiter, since there are several processes. A handler over the
// limit returns a rateLimitError; asynq retries the task after retryIn and counts no failure.

// rateLimitError is returned by a handler over the limit.
type rateLimitError struct{ retryIn time.Duration }

func (e *rateLimitError) Error() string {
	return fmt.Sprintf("rate limited (retry in %v)", e.retryIn)
}

func isRateLimited(err error) bool {
	var limited *rateLimitError
	return errors.As(err, &limited)
}

// The ways to choose when asynq retries a rate-limited task.
const (
	retryRandom = "random" // as in the wiki: 0 to 9 whole seconds
	retryExact  = "exact"  // redis_rate's RetryAfter
)

// plainWorker is a handler for tasks. Without a limiter it has no limit.
type plainWorker struct {
	limiter   *redis_rate.Limiter
	limit     redis_rate.Limit
	retryMode string
	base      string
	client    *http.Client
	paths     map[string]string // by task type
}

func (p *plainWorker) handle(ctx context.Context, t *asynq.Task) error {
	var e tasks.Envelope
	if err := json.Unmarshal(t.Payload(), &e); err != nil {
		return err
	}
	if p.limiter == nil {
		return p.call(ctx, e)
	}
	decision, err := p.limiter.Allow(ctx, e.App, p.limit)
	if err != nil {
		return err
	}
	if decision.Allowed == 0 {
		retryIn := decision.RetryAfter
		if p.retryMode == retryRandom {
			retryIn = time.Duration(rand.IntN(10)) * time.Second //nolint:gosec // as in the wiki
		}
		return &rateLimitError{retryIn}
	}
	return p.call(ctx, e)
}

// call makes the POST of a task.
func (p *plainWorker) call(ctx context.Context, e tasks.Envelope) error {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+p.paths[e.Type]+"?access_token="+standin.TokenPrefix+e.App, bytes.NewReader(e.Body))
	if err != nil {
		return err
	}
	answer, err := p.client.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// runPlainWorker runs an asynq server with a plainWorker until ctx ends.
func runPlainWorker(ctx context.Context, args []string, _ io.Writer) error {
	flags := flag.NewFlagSet(modePlain, flag.ContinueOnError)
	addr := flags.String("redis", "", "host:port")
	base := flags.String("base", "", "the stand-in's URL")
	limit := flags.Int("limit", perSecond, "calls per second and app; 0: no limit")
	back := flags.String("back", retryRandom, "when to retry a task: random or exact")
	concurrency := flags.Int("concurrency", 64, "concurrent handlers")
	queues := flags.String("queues", "", "queue names, separated by commas")
	if err := flags.Parse(args); err != nil {
		return err
	}
	rdb := redis.NewClient(&redis.Options{Addr: *addr})
	defer func() { _ = rdb.Close() }()
	transport := &http.Transport{MaxIdleConnsPerHost: *concurrency}
	p := &plainWorker{
		limit:     redis_rate.PerSecond(*limit),
		retryMode: *back, base: *base, client: &http.Client{Transport: transport}, paths: make(map[string]string),
	}
	if *limit > 0 {
		p.limiter = redis_rate.NewLimiter(rdb)
	}
	for _, spec := range tasks.Catalog() {
		p.paths[spec.Type] = spec.Path
	}
	weights := make(map[string]int)
	for name := range strings.SplitSeq(*queues, ",") {
		weights[name] = 1
	}
	server := asynq.NewServer(asynq.RedisClientOpt{Addr: *addr}, asynq.Config{
		Concurrency: *concurrency, Queues: weights, LogLevel: asynq.WarnLevel,
		IsFailure: func(err error) bool { return !isRateLimited(err) },
		RetryDelayFunc: func(n int, err error, t *asynq.Task) time.Duration {
			var limited *rateLimitError
			if errors.As(err, &limited) {
				return limited.retryIn
			}
			return asynq.DefaultRetryDelayFunc(n, err, t)
		},
	})
	if err := server.Start(asynq.HandlerFunc(p.handle)); err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}
