package gateway_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// The reads of the API pass the whole gateway: events at once, each operation with a key only, the
// description without one. At the shutdown a stream ends by itself.
func TestReads(t *testing.T) {
	t.Parallel()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		reader := f.key(apikey.Key{ID: "reader", Scopes: []apikey.Scope{apikey.Read}, Apps: []string{testApp}})
		f.serve()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.url+"/v1/results/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+reader)
		stream, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stream.Body.Close() }()
		r := tasks.Result{ID: "order-42", App: testApp, Type: tasks.TypeCustom, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted}
		for _, app := range []string{otherApp, testApp} {
			r.App = app
			err := rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(app), Values: []any{"result", r.Encode()}}).Err()
			if err != nil {
				t.Fatal(err)
			}
		}
		lines := bufio.NewScanner(stream.Body)
		line := ""
		for !strings.HasPrefix(line, "data: ") && lines.Scan() {
			line = lines.Text()
		}
		if want := "data: " + string(r.Encode()); line != want {
			t.Fatalf("%q, want %q", line, want)
		}
		f.gateway.Drain()
		if _, err := io.Copy(io.Discard, stream.Body); err != nil {
			t.Errorf("the stream broke off: %v", err)
		}
		for _, path := range []string{"/openapi.json", "/docs/", "/docs/swagger-ui-bundle.js"} {
			f.want(path, f.do(http.MethodGet, path, "", nil), http.StatusOK, "")
		}
		for _, path := range []string{"/v1/results", "/v1/results/stream", "/v1/batches?batch=b", "/v1/batches", "/v1/series", "/v1/audit", "/v1/tasks?id=a", "/v1/lanes", "/v1/quotas", "/v1/holds", "/v1/apps/" + testApp + "/token"} {
			f.want(path+" without a key", f.do(http.MethodGet, path, "", nil), http.StatusUnauthorized, "key")
			if strings.HasSuffix(path, "/token") {
				f.want(path+" without the scope", f.do(http.MethodGet, path, reader, nil), http.StatusForbidden, "scope token")
			} else if !strings.HasSuffix(path, "/stream") {
				f.want(path, f.do(http.MethodGet, path, reader, nil), http.StatusOK, "")
			}
		}
	})
}
