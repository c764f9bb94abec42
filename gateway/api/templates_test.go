package api_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/api"
	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/internal/templates/refresh"
)

// TestTemplates: the list, what enqueuing says by it, and a refresh, which needs the scope operate.
func TestTemplates(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		busy := false
		f := newFixture(t, rdb, func(d *api.Deps) {
			d.RefreshTemplates = func(ctx context.Context, app string) (*templates.Registry, error) {
				if busy {
					return nil, refresh.ErrBusy
				}
				return templates.Read(ctx, rdb, app)
			}
		})
		path := "/v1/templates/" + app
		if a := f.do("GET", path, ""); a.status != http.StatusOK || !strings.Contains(string(a.body), `"items":[]`) || !strings.Contains(string(a.body), `"check":"off"`) {
			t.Errorf("without a list: %d %s", a.status, a.body)
		}
		registry := &templates.Registry{Mode: templates.Mode{Check: templates.CheckReject}}
		registry.SetList(templates.Subscribe, []templates.Template{
			{ID: "T1", Title: "发货", Kind: templates.OneTime, Fields: []templates.Field{{Name: "thing1", Kind: "thing", Label: "商品"}}},
		}, time.Now())
		registry.Lists[templates.Account] = &templates.Listing{AskedAt: time.Now(), Refused: 48001, Error: "wechat: errcode 48001"}
		text, err := json.Marshal(registry)
		if err == nil {
			err = rdb.Set(t.Context(), templates.Key(app), text, 0).Err()
		}
		if err != nil {
			t.Fatal(err)
		}
		a := f.do("GET", path, "")
		for _, want := range []string{`"id":"T1"`, `"source":"subscribe"`, `"label":"商品"`, `"check":"reject"`, `"refused":48001`} {
			if !strings.Contains(string(a.body), want) {
				t.Errorf("%s is not in %s", want, a.body)
			}
		}
		if a := f.do("POST", path+"/refresh", ""); a.status != http.StatusOK || !strings.Contains(string(a.body), `"T1"`) {
			t.Errorf("refresh: %d %s", a.status, a.body)
		}
		busy = true
		f.problem(f.do("POST", path+"/refresh", ""), http.StatusConflict)
		f.as(&apikey.Key{ID: "reader", Apps: []string{app}, Scopes: []apikey.Scope{apikey.Read}})
		f.problem(f.do("POST", path+"/refresh", ""), http.StatusForbidden)
		f.problem(f.do("GET", "/v1/templates/"+other, ""), http.StatusForbidden)
	})
}
