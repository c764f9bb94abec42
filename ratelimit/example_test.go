package ratelimit_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// connect returns a client of an in-process Redis.
func connect() (rdb redis.UniversalClient, stop func()) {
	m, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	client := redis.NewClient(&redis.Options{Addr: m.Addr()})
	return client, func() {
		_ = client.Close()
		m.Close()
	}
}

func ExampleLimiter_Acquire() {
	rdb, stop := connect()
	defer stop()
	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil)

	start := time.Now()
	for range 3 {
		permit, err := limiter.Acquire(context.Background(), "wx0123456789abcdef", "scheme:generate", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		_ = permit // make the call here, while it is fresh
	}
	fmt.Println("three calls took at least 20 ms:", time.Since(start) >= 20*time.Millisecond)

	usage, err := limiter.Usage(context.Background(), "wx0123456789abcdef", "scheme:urllink")
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, u := range usage {
		fmt.Printf("%s, per %s: %d of %d\n", u.Name, u.Window, u.Used, u.Limit)
	}
	// Output:
	// three calls took at least 20 ms: true
	// scheme:urllink, per second: 0 of 100
	// links, per day: 3 of 500000
}

func ExampleValidateLimits() {
	fmt.Println(ratelimit.ValidateLimits(map[string]ratelimit.Limit{"linx": {PerDay: -1}}) != nil)
	// Output: true
}

func ExampleWriteLimitTable() {
	if err := ratelimit.WriteLimitTable(os.Stdout); err != nil {
		fmt.Println(err)
	}
}
