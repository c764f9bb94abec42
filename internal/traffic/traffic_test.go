package traffic_test

import (
	"slices"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/traffic"
)

func TestEveryTaskIsValid(t *testing.T) {
	types := make(map[string]bool)
	for n := range 2000 {
		e := traffic.Task(n)
		if err := e.Prepare(time.Now()); err != nil {
			t.Fatalf("task %d: %v", n, err)
		}
		if !slices.Contains(traffic.Apps(), e.App) {
			t.Fatalf("task %d is of app %s", n, e.App)
		}
		types[e.Type] = true
	}
	if len(types) < 5 {
		t.Errorf("only %d types", len(types))
	}
}
