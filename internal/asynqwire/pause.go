package asynqwire

import (
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/exists"
)

var (
	//go:embed set_pause.lua
	setPauseSource string
	setPauseScript = redis.NewScript(setPauseSource)
)

// Pause is the pause key of a queue. asynq's own pause is a time, in seconds since 1970; a value
// with a prefix of its own can be told from it.
type Pause struct {
	Queue string
	Value string    // "" for none
	Until time.Time // when the key expires; zero: after the ttl of WritePauses. ReadPauses does not set it
}

// ReadPauses returns the pauses of some queues, in their order.
func ReadPauses(ctx context.Context, rdb redis.UniversalClient, queues []string) ([]Pause, error) {
	pauses := make([]Pause, len(queues))
	for i, q := range queues {
		pauses[i].Queue = q
	}
	read := readPauses
	if _, cluster := rdb.(*redis.ClusterClient); cluster { // a command may not have keys of two queues
		read = readPausesOneByOne
	}
	if err := read(ctx, rdb, pauses); err != nil {
		return nil, fmt.Errorf("read the pauses of the queues: %w", err)
	}
	return pauses, nil
}

func readPauses(ctx context.Context, rdb redis.UniversalClient, pauses []Pause) error {
	for chunk := range slices.Chunk(pauses, exists.MaxKeys) {
		keys := make([]string, len(chunk))
		for i, p := range chunk {
			keys[i] = Key(p.Queue, Paused)
		}
		values, err := rdb.MGet(ctx, keys...).Result()
		if err != nil {
			return err
		}
		for i, v := range values {
			chunk[i].Value, _ = v.(string)
		}
	}
	return nil
}

func readPausesOneByOne(ctx context.Context, rdb redis.UniversalClient, pauses []Pause) error {
	replies := make([]*redis.StringCmd, len(pauses))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, pause := range pauses {
			replies[i] = p.Get(ctx, Key(pause.Queue, Paused))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for i, r := range replies {
		if err := r.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		pauses[i].Value = r.Val()
	}
	return nil
}

// WritePauses writes pauses whose values begin with a prefix, in one round trip. It leaves keys
// with other values, which are pauses of operators. A pause without Until expires after ttl.
func WritePauses(ctx context.Context, rdb redis.UniversalClient, prefix string, ttl time.Duration, pauses []Pause) error {
	write := func(send func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd) error {
		_, err := rdb.Pipelined(ctx, func(to redis.Pipeliner) error {
			for _, p := range pauses {
				var until int64
				if !p.Until.IsZero() {
					until = p.Until.UnixMilli()
				}
				send(ctx, to, []string{Key(p.Queue, Paused)}, prefix, p.Value, until, ttl.Milliseconds())
			}
			return nil
		})
		return err
	}
	err := write(setPauseScript.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = write(setPauseScript.Eval)
	}
	if err != nil {
		return fmt.Errorf("write the pauses of the queues: %w", err)
	}
	return nil
}
