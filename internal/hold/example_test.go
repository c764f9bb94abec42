package hold_test

import (
	"context"
	"fmt"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/hold"
)

func Example() {
	m, err := miniredis.Run()
	if err != nil {
		panic(err)
	}
	defer m.Close()
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	defer func() { _ = rdb.Close() }()

	ctx, app := context.Background(), "wx0123456789abcdef"
	holds := hold.NewStore(rdb)
	_, err = holds.Set(ctx, hold.Hold{App: app, Scope: "send:template", Reason: "legal", Until: time.Now().Add(time.Hour), By: "somebody@somewhere"})
	if err != nil {
		panic(err)
	}
	inForce, err := holds.List(ctx, app)
	for _, h := range inForce {
		fmt.Println(h.Scope, h.Reason)
	}
	held, err2 := holds.Held(ctx, app, "send:custom")
	fmt.Println("another type is held:", held, err, err2)

	lifted, err := holds.Lift(ctx, app, "send:template")
	fmt.Println("lifted:", lifted, err)
	// Output:
	// send:template legal
	// another type is held: false <nil> <nil>
	// lifted: true <nil>
}
