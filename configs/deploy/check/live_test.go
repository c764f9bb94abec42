package check

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/subprocess"
)

// mayBeEmpty are expressions that have no data in a healthy system: counters that begin with the
// first event, and those of what dev does not configure (consent, forwarding).
var mayBeEmpty = []string{
	"wxcourier_webhook_dead_total", "wxcourier_webhook_gaps_total", "wxcourier_consent_checks_total", "wxcourier_callback_forwards_total",
}

// TestExpressionsReturnData runs Prometheus on `wxcourier dev` until each expression of the
// dashboard returns data, and each rule has been evaluated.
func TestExpressionsReturnData(t *testing.T) {
	t.Parallel()
	server := tool(t, "prometheus")
	program := binary(t)
	dir := t.TempDir()
	endpoint := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(endpoint.Close)
	config := write(t, dir, "wxcourier.yaml", `
webhooks:
  - {name: crm, url: "`+endpoint.URL+`", secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=, allow_private: [127.0.0.0/8]}
`)
	listen := "127.0.0.1:" + freePort(t)
	dev, err := subprocess.Start(t.Context(), subprocess.Command{Path: program, Args: []string{"dev", "-c", config, "--listen", listen, "--rate", "30"}})
	if err != nil {
		t.Fatal(err)
	}
	stopLater(t, dev)
	waitForPort(t, dev, listen)

	rulesFile, err := filepath.Abs(filepath.Join(deploy, "prometheus/rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config = write(t, dir, "prometheus.yaml", fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs: [{job_name: wxcourier-worker, static_configs: [{targets: [%q]}]}]
`, rulesFile, listen))
	at := "127.0.0.1:" + freePort(t)
	prometheus, err := subprocess.Start(t.Context(), subprocess.Command{Path: server, Args: []string{
		"--config.file=" + config, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + at,
	}})
	if err != nil {
		t.Fatal(err)
	}
	stopLater(t, prometheus)
	waitForPort(t, prometheus, at)

	missing := expressions(t)
	missing = append(missing, expression{"autoscaler", strings.ReplaceAll(adapterQuery(t), `namespace="wxcourier"`, "")})
	missing = slices.DeleteFunc(missing, func(e expression) bool {
		return slices.ContainsFunc(mayBeEmpty, func(name string) bool { return strings.Contains(e.expr, name) })
	})
	holds := "http://" + listen + "/v1/holds"
	request(t, http.MethodPut, holds+"/wx00000000000000d2/code:unlimited", `{"reason":"a test"}`)
	failed := ""
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("without data: %q %s\n%s", missing, failed, dev.Output())
		}
	})
	waitFor(t, "data of each expression", func() bool {
		request(t, http.MethodGet, holds, "") // so that there are requests to count
		missing = slices.DeleteFunc(missing, func(e expression) bool {
			n, problem := series(t, at, e.expr)
			failed += problem
			return n > 0
		})
		return len(missing) == 0
	})
	if failed != "" {
		t.Error(failed)
	}
	for _, r := range allRules(t) {
		if _, problem := series(t, at, r.Expr); problem != "" {
			t.Errorf("%s%s: %s", r.Alert, r.Record, problem)
		}
	}
}

// request makes a request to the API, which must succeed.
func request(t *testing.T, method, url, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode >= http.StatusBadRequest {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("%s %s: %s %s", method, url, response.Status, text)
	}
}

// series returns the number of series that an expression returns.
func series(t *testing.T, at, expr string) (n int, problem string) {
	t.Helper()
	get, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+at+"/api/v1/query?query="+url.QueryEscape(expr), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(get)
	if err != nil {
		return 0, "" // Prometheus is starting
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusServiceUnavailable {
		return 0, ""
	}
	var answer struct {
		Error string `json:"error"`
		Data  struct {
			Result []json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return 0, fmt.Sprintf("%s: %s", expr, body)
	}
	if answer.Error != "" {
		problem = expr + ": " + answer.Error + "\n"
	}
	return len(answer.Data.Result), problem
}
