package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
)

// redisTimeout bounds the first ping of Redis, and the clean-up at the end.
const redisTimeout = 3 * time.Second

// OpenRedis returns a client of the configured Redis and checks that it answers. The caller closes
// the client. The error is that of [PingRedis].
func OpenRedis(ctx context.Context, cfg configs.Redis) (redis.UniversalClient, error) {
	rdb := cfg.NewClient()
	if err := PingRedis(ctx, cfg, rdb); err != nil {
		_ = rdb.Close()
		return nil, err
	}
	return rdb, nil
}

// PingRedis checks that Redis answers, within 3 s. Its error names the address, and ends with a line
// of advice.
func PingRedis(ctx context.Context, cfg configs.Redis, rdb redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- rdb.Ping(ctx).Err() }() // may outlast ctx while it dials
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		return nil
	}
	return fmt.Errorf("Redis at %s cannot be used: %w\n%s", cfg.Address(), err, redisAdvice(err)) //nolint:staticcheck // Redis is a name
}

func redisAdvice(err error) string {
	var dns *net.DNSError
	var network net.Error
	switch {
	case redis.HasErrorPrefix(err, "NOAUTH"), redis.HasErrorPrefix(err, "WRONGPASS"), redis.HasErrorPrefix(err, "ERR invalid password"):
		return "set redis.username and redis.password (or redis.password_file) as that Redis requires"
	case redis.HasErrorPrefix(err, "LOADING"):
		return "it is loading its data after a start: try again when it has finished"
	case redis.HasErrorPrefix(err, "NOPERM"):
		return "give the user of redis.username all commands and keys"
	case errors.As(err, &dns):
		return "the host name in redis.addrs cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "no answer: compare redis.addrs with the address of Redis, check the firewall, and set redis.tls if it requires TLS"
	}
	return "start it, or set redis.addrs to its address"
}

// CheckEviction returns an error when Redis evicts keys, which include tasks, when its memory is
// full. If that is allowed by the configuration, or cannot be read, it logs a warning instead.
func CheckEviction(ctx context.Context, cfg configs.Redis, rdb redis.UniversalClient, log *slog.Logger) error {
	policy, err := RedisSetting(ctx, rdb, "maxmemory-policy")
	switch {
	case err != nil:
		log.Warn("the settings of this Redis cannot be read; make sure that maxmemory-policy is noeviction, or tasks may be lost", "err", err)
	case policy == "noeviction":
	case cfg.AllowEviction:
		log.Warn("this Redis evicts keys, including tasks, when its memory is full", "maxmemory-policy", policy)
	default:
		return fmt.Errorf("Redis at %s has maxmemory-policy %s: when its memory is full it would evict tasks.\nSet it to noeviction, or allow it with redis.allow_eviction: true", cfg.Address(), policy) //nolint:staticcheck // Redis is a name
	}
	return nil
}

// RedisSetting reads one setting of Redis. Hosted servers often forbid it. When the masters of a
// cluster differ, it returns all values, joined with " and ".
func RedisSetting(ctx context.Context, rdb redis.UniversalClient, name string) (string, error) {
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return nodeSetting(ctx, rdb, name)
	}
	var mu sync.Mutex
	var values []string
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		value, err := nodeSetting(ctx, node, name)
		mu.Lock()
		defer mu.Unlock()
		values = append(values, value)
		return err
	})
	slices.Sort(values)
	return strings.Join(slices.Compact(values), " and "), err
}

func nodeSetting(ctx context.Context, rdb redis.Cmdable, name string) (string, error) {
	values, err := rdb.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", err
	}
	value, ok := values[name]
	if !ok {
		return "", errors.New("Redis has no setting " + name)
	}
	return value, nil
}
