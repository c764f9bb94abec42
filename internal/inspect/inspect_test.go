package inspect_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestRead: the state shows lanes with tasks or with a limit in use, the holds, and tasks of apps
// that are not configured, in the same number of round trips for one app and for 300.
func TestRead(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return nil })
		holds, client := hold.NewStore(rdb), tasks.NewClient(rdb)
		counted := redis.NewClient(rdb.(*redis.Client).Options()) //nolint:forcetypeassert // redistest.Each
		t.Cleanup(func() { _ = counted.Close() })
		sent := redistest.Count(counted)
		reader := inspect.NewReader(counted, ratelimit.NewLimiter(counted, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return nil }), hold.NewStore(counted))
		body := []byte(`{"content":"x","version":2,"scene":1,"openid":"o"}`)
		fill := func(app string) {
			if _, err := client.Submit(t.Context(), tasks.Envelope{App: app, Type: tasks.TypeTextCheck, Body: body}); err != nil {
				t.Fatal(err)
			}
			if _, err := limiter.Acquire(t.Context(), app, tasks.TypeScheme, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := holds.Set(t.Context(), hold.Hold{App: app, Scope: hold.WholeApp, Reason: "test", Until: time.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}
		read := func(apps []string, wanted func(string) bool) (inspect.State, int64) {
			t.Helper()
			before := sent.Trips()
			state, err := reader.Read(t.Context(), apps, wanted)
			if err != nil {
				t.Fatal(err)
			}
			return state, sent.Trips() - before
		}
		fill(mine)
		fill(others)
		read([]string{mine}, nil) // Redis learns the scripts
		state, one := read([]string{mine}, nil)
		var lanes []string
		for _, l := range state.Lanes {
			lanes = append(lanes, l.App+" "+l.Type)
		}
		// Both endpoints of links share the day's limit.
		if want := []string{mine + " scheme:generate", mine + " scheme:urllink", mine + " seccheck:text"}; !slices.Equal(lanes, want) {
			t.Errorf("lanes %q, want %q", lanes, want)
		}
		if len(state.Orphans) != 1 || state.Orphans[0].App != others || state.Orphans[0].Waiting != 1 {
			t.Errorf("orphans %+v", state.Orphans)
		}
		if len(state.Holds) != 2 || state.Holds[0].App != mine {
			t.Errorf("holds %+v", state.Holds)
		}
		if state, _ := read([]string{mine}, func(app string) bool { return app == others }); len(state.Lanes) != 0 || len(state.Orphans) != 1 || len(state.Holds) != 1 {
			t.Errorf("of another app: %+v", state)
		}
		apps := []string{mine}
		for i := range 300 {
			apps = append(apps, fmt.Sprintf("wx%016x", i))
			fill(apps[len(apps)-1])
		}
		if state, many := read(apps, nil); many != one || one > 13 || len(state.Lanes) != 3*len(apps) {
			t.Errorf("%d round trips for one app and %d for %d, %d lanes", one, many, len(apps), len(state.Lanes))
		}
	})
}
