package wechat

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// TokenAge is when the token of an app was requested, and until when it is valid. Both are zero
// when there is none.
type TokenAge struct{ FetchedAt, ExpiresAt time.Time }

// Ages reads the ages of the tokens of some apps, in one round trip and in their order. It requests
// no token, and does not read the tokens themselves.
func (t *Tokens) Ages(ctx context.Context, apps []string) ([]TokenAge, error) {
	if len(apps) == 0 {
		return nil, nil
	}
	replies := make([]*redis.SliceCmd, len(apps))
	_, err := t.store.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			replies[i] = p.HMGet(ctx, tokenKey(app), "fetched_at_ms", "expires_at_ms")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read the ages of the tokens from Redis: %w", err)
	}
	ages := make([]TokenAge, len(apps))
	for i, reply := range replies {
		fetched, _ := reply.Val()[0].(string)
		expires, _ := reply.Val()[1].(string)
		ages[i] = TokenAge{unixMilli(fetched), unixMilli(expires)}
	}
	return ages, nil
}
