package embedded_test

import (
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
