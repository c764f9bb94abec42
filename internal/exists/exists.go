// Package exists finds out which of many keys exist in Redis, with few commands.
package exists

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// MaxKeys bounds the keys of one EXISTS or MGET.
const MaxKeys = 500

// Filter returns the items of which Redis has at least one key, in their order. It checks
// blocks of items by one EXISTS each, then smaller blocks of those blocks that exist, by the
// sizes given, which are numbers of items. Where the last size is not 1, all items of an
// existing block are returned. On Redis Cluster, where a command may not have keys of two
// slots, each item is checked by itself.
//
// Each size takes one round trip.
func Filter[T any](ctx context.Context, rdb redis.UniversalClient, items []T, keys func(T) []string, sizes ...int) ([]T, error) {
	if _, cluster := rdb.(*redis.ClusterClient); cluster {
		sizes = []int{1}
	}
	for _, size := range sizes {
		if len(items) == 0 {
			return nil, nil
		}
		var err error
		if items, err = nonEmptyBlocks(ctx, rdb, items, keys, size); err != nil {
			return nil, err
		}
	}
	return items, nil
}

// nonEmptyBlocks returns the items of the blocks of which Redis has at least one key.
func nonEmptyBlocks[T any](ctx context.Context, rdb redis.UniversalClient, items []T, keys func(T) []string, size int) ([]T, error) {
	blocks := slices.Collect(slices.Chunk(items, size))
	replies := make([]*redis.IntCmd, len(blocks))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, block := range blocks {
			var all []string
			for _, item := range block {
				all = append(all, keys(item)...)
			}
			replies[i] = p.Exists(ctx, all...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("check %d keys: %w", len(items), err)
	}
	var filled []T
	for i, block := range blocks {
		if replies[i].Val() > 0 {
			filled = append(filled, block...)
		}
	}
	return filled, nil
}
