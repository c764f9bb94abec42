package templates_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

// TestKind: the kind is that of the list for subscribe messages, also where the other list has the id.
func TestKind(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const app = "wx0123456789abcdef"
		registry, err := json.Marshal(templates.Registry{Templates: []templates.Template{
			{ID: "once", Source: templates.Subscribe, Kind: templates.OneTime},
			{ID: "long", Source: templates.Subscribe, Kind: templates.LongTerm},
			{ID: "once", Source: templates.Account},
			{ID: "other", Source: templates.Account},
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.Set(t.Context(), templates.Key(app), registry, 0).Err(); err != nil {
			t.Fatal(err)
		}
		c := templates.NewCache(rdb, nil)
		for id, want := range map[string]int{"once": templates.OneTime, "long": templates.LongTerm, "other": 0, "unknown": 0} {
			if kind, known := c.Kind(app, id); kind != want || known != (want != 0) {
				t.Errorf("%s: %d, %v; want %d", id, kind, known, want)
			}
		}
		if kind, known := c.Kind("wxfedcba9876543210", "once"); known {
			t.Errorf("of an app without templates: %d", kind)
		}
	})
}
