package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
)

// TestLongThings: a thing that is too long is refused, one by one and in bulk, and with templates.fix of
// the app it is cut. The refusal names the field, and no value.
func TestLongThings(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		long := strings.Repeat("伞", 30)
		line := func(id string) string {
			return `{"type":"send:subscribe","app":"` + app + `","id":"` + id + `","body":{"touser":"o1","template_id":"T1","data":{"thing1":{"value":"` + long + `"}}}}`
		}
		f := newFixture(t, rdb)
		p := f.problem(f.do("POST", "/v1/tasks", line("one")), http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != "body.data.thing1.value" || !strings.HasPrefix(p.Errors[0].Message, "30 characters") {
			t.Errorf("%+v", p)
		}
		if a := f.do("POST", "/v1/tasks:batch", line("two")); !strings.Contains(string(a.body), "30 characters") || strings.Contains(string(a.body), long) {
			t.Errorf("in bulk: %d %s", a.status, a.body)
		}
		if n := rdb.Exists(t.Context(), "asynq:{"+app+":send:subscribe}:pending").Val(); n != 0 {
			t.Error("a task was enqueued")
		}

		if err := rdb.Set(t.Context(), templates.Key(other), `{"fix":true,"templates":[]}`, 0).Err(); err != nil {
			t.Fatal(err)
		}
		fix := func(id string) string { return strings.Replace(line(id), app, other, 1) }
		if a := f.do("POST", "/v1/tasks", fix("one")); a.status != http.StatusAccepted {
			t.Errorf("with templates.fix: %d %s", a.status, a.body)
		}
		if a := f.do("POST", "/v1/tasks:batch", fix("two")); a.status != http.StatusOK || !strings.Contains(string(a.body), `"two"`) {
			t.Errorf("in bulk, with templates.fix: %d %s", a.status, a.body)
		}
		for _, id := range []string{"one", "two"} {
			payload, err := rdb.HGet(t.Context(), "asynq:{"+other+":send:subscribe}:t:"+other+":"+id, "msg").Result()
			if err != nil || strings.Contains(payload, long) || !strings.Contains(payload, strings.Repeat("伞", 19)+"…") || !strings.Contains(payload, "cut from 30 to 20 characters") {
				t.Errorf("%s: %q, %v", id, payload, err)
			}
		}
	})
}
