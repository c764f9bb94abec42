package tasks_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

func TestResultsFollowTheStream(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		inspector := tasks.NewInspector(rdb)
		l := ledger.New(rdb, ledger.Policy{Retention: time.Hour, StreamMax: 10_000})
		settle := func(id string) {
			_, err := l.Settle(t.Context(), ledger.Ref{App: clientApp, ID: id}, ledger.SettleRequest{
				Outcome: "accepted", Result: fmt.Appendf(nil, `{"id":%q,"app":%q,"outcome":"accepted","msgid":"3395159288267931652"}`, id, clientApp),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for i := range 1200 { // more than two pages
			settle(fmt.Sprintf("m%d", i))
		}
		n := 0
		for r, err := range inspector.Results(t.Context(), clientApp, "", false) {
			if err != nil || r.ID != fmt.Sprintf("m%d", n) || r.MsgID != "3395159288267931652" {
				t.Fatalf("%d: %+v, %v", n, r, err)
			}
			n++
		}
		if n != 1200 {
			t.Errorf("%d results", n)
		}
		end, err := inspector.End(t.Context(), clientApp)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		got := make(chan string)
		go func() {
			for r, err := range inspector.Results(ctx, clientApp, end, true) {
				if err != nil {
					t.Error(err)
				}
				got <- r.ID
			}
			close(got)
		}()
		settle("new")
		if id := <-got; id != "new" {
			t.Errorf("followed to %s", id)
		}
		cancel()
		if _, more := <-got; more {
			t.Error("it yields results after the end of its context")
		}
	})
}
