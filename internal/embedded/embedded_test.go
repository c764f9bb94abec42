package embedded_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/embedded"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestClockMoves(t *testing.T) {
	r, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer func() { _ = rdb.Close() }()
	if err := rdb.Set(t.Context(), "k", "v", 1500*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, 10*time.Second, "the key expires by itself", func() bool {
		return rdb.Exists(t.Context(), "k").Val() == 0
	})
}

// Advance moves TIME, also in scripts, the ids of streams and the times to live, and the clock
// runs on.
func TestAdvance(t *testing.T) {
	r, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	rdb := redis.NewClient(&redis.Options{Addr: r.Addr()})
	defer func() { _ = rdb.Close() }()
	ctx := t.Context()
	for key, ttl := range map[string]time.Duration{"brief": 5 * time.Hour, "long": 7 * time.Hour} {
		if err := rdb.Set(ctx, key, "v", ttl).Err(); err != nil {
			t.Fatal(err)
		}
	}
	r.Advance(4 * time.Hour)
	r.Advance(2 * time.Hour)
	if rdb.Exists(ctx, "brief").Val() != 0 || rdb.Exists(ctx, "long").Val() != 1 {
		t.Error("the keys did not expire by the clock")
	}
	read := func() (at, inScript time.Time) {
		at, err := rdb.Time(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		reply, err := rdb.Eval(ctx, "local t = redis.call('TIME'); return t[1] * 1000000 + t[2]", nil).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return at, time.UnixMicro(reply)
	}
	first, script := read()
	for name, at := range map[string]time.Time{"TIME": first, "a script's TIME": script} {
		if d := time.Until(at) - 6*time.Hour; d.Abs() > time.Second {
			t.Errorf("%s is wrong by %v", name, d)
		}
	}
	for range 5 {
		earlier, _ := read()
		if at, script := read(); !at.After(earlier) || !script.After(earlier) {
			t.Errorf("the clock stands still at %v", at)
		}
	}
	redistest.Until(t, 5*time.Second, "the ids of streams follow", func() bool {
		id, err := rdb.XAdd(ctx, &redis.XAddArgs{Stream: "s", Values: []any{"a", "b"}}).Result()
		if err != nil {
			t.Fatal(err)
		}
		ms, err := strconv.ParseInt(id[:strings.Index(id, "-")], 10, 64)
		return err == nil && time.UnixMilli(ms).After(first)
	})
}

func TestCloseTwice(t *testing.T) {
	r, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.Close()
}

func TestProtect(t *testing.T) {
	r, err := embedded.Start()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	r.Protect("open sesame")
	for password, want := range map[string]bool{"": false, "open": false, "open sesame": true} {
		rdb := redis.NewClient(&redis.Options{Addr: r.Addr(), Password: password, MaxRetries: -1})
		if err := rdb.Ping(t.Context()).Err(); (err == nil) != want {
			t.Errorf("password %q: %v", password, err)
		}
		_ = rdb.Close()
	}
}
