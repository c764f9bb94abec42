package heartbeat

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestList: a replica is listed from its first beat until it is removed; one that does not beat any
// more counts as lost, and is forgotten by and by.
func TestList(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx := t.Context()
		list := func() string {
			t.Helper()
			all, err := List(ctx, rdb)
			if err != nil || all == nil {
				t.Fatal(all, err)
			}
			text := ""
			for _, r := range all {
				text += fmt.Sprintf("%s %s/%d %s %d/%d/%d lost=%t;", r.ID, r.Host, r.PID, r.Version, r.Apps, r.Lanes, r.Active, r.Lost)
				if since := time.Since(r.Seen); !r.Lost && (since < -time.Minute || since > time.Minute) {
					t.Errorf("%s was seen %v ago", r.ID, since)
				}
			}
			return text
		}
		if got := list(); got != "" {
			t.Errorf("at first: %s", got)
		}
		started := time.Now().Truncate(time.Second)
		a := Replica{ID: "a", Host: "h2", PID: 7, Version: "v1", Started: started, Apps: 3, Lanes: 2, Active: 5}
		b := Replica{ID: "b", Host: "h1", PID: 8, Version: "v2", Started: started}
		for _, r := range []Replica{a, b} {
			if err := Beat(ctx, rdb, r); err != nil {
				t.Fatal(err)
			}
		}
		if got := list(); got != "b h1/8 v2 0/0/0 lost=false;a h2/7 v1 3/2/5 lost=false;" {
			t.Errorf("two replicas: %s", got)
		}
		if ttl := rdb.PTTL(ctx, key).Val(); ttl <= keep-time.Minute || ttl > keep {
			t.Errorf("the list is kept for %v", ttl)
		}
		ages := func(id string, age time.Duration) {
			t.Helper()
			entry := rdb.HGet(ctx, key, id).Val()
			then := fmt.Sprint(time.Now().Add(-age).UnixMilli()) + entry[13:]
			if err := rdb.HSet(ctx, key, id, then).Err(); err != nil {
				t.Fatal(err)
			}
		}
		ages("b", lostAfter+5*time.Second)
		if got := list(); got != "b h1/8 v2 0/0/0 lost=true;a h2/7 v1 3/2/5 lost=false;" {
			t.Errorf("one is lost: %s", got)
		}
		ages("b", keep+time.Minute)
		if got := list(); got != "a h2/7 v1 3/2/5 lost=false;" {
			t.Errorf("one was lost long ago: %s", got)
		}
		a.Active = 1
		if err := rdb.HSet(ctx, key, "c", "written by another version").Err(); err != nil {
			t.Fatal(err)
		}
		if err := Beat(ctx, rdb, a); err != nil {
			t.Fatal(err)
		}
		if got, n := list(), rdb.HLen(ctx, key).Val(); got != "a h2/7 v1 3/2/1 lost=false;" || n != 1 {
			t.Errorf("after a beat: %s %d entries", got, n)
		}
		if err := Remove(ctx, rdb, "a"); err != nil || list() != "" {
			t.Errorf("after the end: %s %v", list(), err)
		}
	})
}
