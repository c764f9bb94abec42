package readme

import (
	"go/parser"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"
)

// layers are the packages in the order of the imports: a package may import packages of the
// layers below it (further down) and, in the last layer, of its own.
func layers() [][]string {
	return [][]string{
		{"cmd/wxcourier"},
		{"internal/app/check", "internal/app/dev", "internal/app/filerun", "internal/app/reload", "internal/loadtest"},
		{"internal/app"},
		{"configs", "internal/app/httpserver", "examples/producer", "wxcouriertest"},
		{"worker", "gateway", "internal/describe"},
		{"gateway/callback", "gateway/console"},
		{"gateway/api", "gateway/monitor", "gateway/proxy", "gateway/webhook"},
		{"gateway/docs", "internal/campaign", "internal/operate"},
		{"internal/dispatch", "internal/inspect", "internal/redrive", "internal/resultcsv", "internal/gate", "internal/reconcile", "internal/ingest"},
		{"internal/resultlog"},
		{"internal/apikey", "internal/campaign/draft", "internal/images", "internal/journal", "internal/summary", "internal/taskfile", "internal/traffic"},
		{"internal/pushes", "internal/templates/refresh"},
		{"sandbox"},
		{"tasks", "ratelimit", "wechat"},
		{"wechat/callback"},
		{"internal/taskstate"},
		{"internal/hold"},
		{"internal/ledger", "internal/asynqwire"},
		{ // what knows nothing of wxcourier
			"internal/audit", "internal/background", "internal/buildinfo", "internal/calendar", "internal/campaign/table", "internal/console", "internal/consent", "internal/embedded", "internal/exists",
			"internal/heartbeat", "internal/httpguard", "internal/printable", "internal/problem", "internal/redisinfo", "internal/redisserver", "internal/rotate", "internal/series", "internal/signing", "internal/strictjson",
			"internal/subprocess", "internal/suggest", "internal/templates", "internal/tracing", "internal/workerpool",
		},
	}
}

// testPackages are packages that only tests and measurements import.
func testPackages() []string {
	return []string{"configs/deploy/check", "internal/browsertest", "internal/campaign/tabletest", "internal/chaos", "internal/e2e", "internal/readme", "internal/redistest", "internal/tracetest", "examples"}
}

// Imports run one way.
func TestImportsRunOneWay(t *testing.T) {
	layer := make(map[string]int)
	for i, packages := range layers() {
		for _, p := range packages {
			layer[p] = len(layers()) - i
		}
	}
	tests := make(map[string]bool)
	for _, p := range testPackages() {
		tests[p] = true
	}
	const module = "github.com/wxcourier/wxcourier/"
	for _, file := range files(t, ".go") {
		p := path.Dir(file)
		if strings.HasSuffix(file, "_test.go") || tests[p] || strings.HasPrefix(p, "bench") {
			continue
		}
		if parent, _, nested := strings.Cut(p, "/internal/"); nested {
			p = parent // a part of that package
		}
		if layer[p] == 0 {
			t.Errorf("%s is in no layer: add it", p)
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imported := range parsed.Imports {
			name, err := strconv.Unquote(imported.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			name, ours := strings.CutPrefix(name, module)
			if parent, _, nested := strings.Cut(name, "/internal/"); nested && parent == p {
				continue
			}
			if ours && layer[name] >= layer[p] && layer[name] > 1 {
				t.Errorf("%s imports %s, which is in no layer below", file, name)
			}
		}
	}
}
