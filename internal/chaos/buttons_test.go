package chaos

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// button is a route of asynqmon's API that changes something.
type button struct {
	method, path string // as asynqmon registers it, below /api
	list         string // the task list in the path; "": acts on a whole queue
	removes      bool   // deletes tasks from asynq
	weight       int    // relative frequency of presses
}

// String returns the method and the path.
func (b button) String() string { return b.method + " " + b.path }

const (
	deleteQueue = "delete queue"
	activeTasks = "active_tasks"
)

// kind returns the effect of the button: pause, run, delete …
func (b button) kind() string {
	if b.method == http.MethodDelete && b.list == "" {
		return deleteQueue
	}
	if b.removes {
		return "delete"
	}
	_, verb, _ := strings.Cut(b.path, ":")
	return strings.TrimSuffix(strings.TrimPrefix(verb, "batch_"), "_all")
}

// Weights of buttons. Those that empty a whole list are rare, so that the others find tasks.
const (
	oftenPressed  = 8
	rarelyPressed = 1
)

// taskLists returns asynqmon's task lists with the verbs of each.
func taskLists() map[string][]string {
	return map[string][]string{
		"pending_tasks":                    {"delete", "archive"},
		"scheduled_tasks":                  {"delete", "run", "archive"},
		"retry_tasks":                      {"delete", "run", "archive"},
		"archived_tasks":                   {"delete", "run"},
		"completed_tasks":                  {"delete"},
		"groups/{gname}/aggregating_tasks": {"delete", "run", "archive"},
	}
}

// buttons returns every button: those of queues and of active tasks, and each verb of each list for
// one task, for several and for all.
func buttons() []button {
	const queue = "/queues/{qname}"
	all := []button{
		{http.MethodPost, queue + ":pause", "", false, oftenPressed},
		{http.MethodPost, queue + ":resume", "", false, 2 * oftenPressed},
		{http.MethodDelete, queue, "", false, 2 * oftenPressed},
		{http.MethodPost, queue + "/" + activeTasks + "/{task_id}:cancel", activeTasks, false, oftenPressed},
		{http.MethodPost, queue + "/" + activeTasks + ":batch_cancel", activeTasks, false, oftenPressed},
		{http.MethodPost, queue + "/" + activeTasks + ":cancel_all", activeTasks, false, oftenPressed},
	}
	lists := taskLists()
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		at := queue + "/" + list
		for _, verb := range lists[list] {
			one := button{http.MethodPost, at + "/{task_id}:" + verb, list, false, oftenPressed}
			several := button{http.MethodPost, at + ":batch_" + verb, list, false, oftenPressed}
			whole := button{http.MethodPost, at + ":" + verb + "_all", list, false, rarelyPressed}
			if verb == "delete" {
				one.method, one.path, whole.method = http.MethodDelete, at+"/{task_id}", http.MethodDelete
				one.removes, several.removes, whole.removes = true, true, true
			}
			if whole.removes && list == "archived_tasks" {
				whole.weight = oftenPressed // only a queue without an archive can be deleted
			}
			all = append(all, one, several, whole)
		}
	}
	return all
}

// TestButtonsAreComplete compares buttons with the routes that asynqmon's source registers, so that a
// new release of asynqmon cannot add one unnoticed.
func TestButtonsAreComplete(t *testing.T) {
	t.Parallel()
	routes := monitorRoutes(t)
	var have []string
	for _, b := range buttons() {
		have = append(have, b.String())
	}
	slices.Sort(have)
	if len(slices.Compact(slices.Clone(have))) != len(have) {
		t.Error("a button is in the table twice")
	}
	for _, route := range routes {
		if !slices.Contains(have, route) {
			t.Errorf("no button for asynqmon's %s", route)
		}
	}
	for _, name := range have {
		if !slices.Contains(routes, name) {
			t.Errorf("asynqmon has no %s", name)
		}
	}
}

// monitorRoutes reads the routes whose method is not GET from asynqmon's source. Its
// router is not exported.
func monitorRoutes(t *testing.T) (routes []string) {
	t.Helper()
	dir, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/hibiken/asynqmon").Output()
	must(t, err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "*.go"))
	must(t, err)
	unknown := 0 // registrations whose methods are not known
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if _, ok := callOf(n, "HandleFunc"); ok {
				unknown++
			}
			if path, methods, ok := registration(n); ok {
				unknown--
				for _, method := range methods {
					if method != http.MethodGet {
						routes = append(routes, method+" "+path)
					}
				}
			}
			return true
		})
	}
	if unknown != 0 || len(routes) == 0 {
		t.Fatalf("asynqmon's source has %d routes with an unknown method, and these that change something: %v", unknown, routes)
	}
	return routes
}

// registration parses api.HandleFunc(path, …).Methods(method, …).
func registration(n ast.Node) (path string, methods []string, ok bool) {
	outer, ok := callOf(n, "Methods")
	if !ok {
		return "", nil, false
	}
	receiver, _ := outer.Fun.(*ast.SelectorExpr)
	inner, ok := callOf(receiver.X, "HandleFunc")
	if !ok || len(inner.Args) == 0 {
		return "", nil, false
	}
	for _, arg := range outer.Args {
		methods = append(methods, literal(arg))
	}
	return literal(inner.Args[0]), methods, true
}

func callOf(n ast.Node, name string) (*ast.CallExpr, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return nil, false
	}
	selector, ok := call.Fun.(*ast.SelectorExpr)
	return call, ok && selector.Sel.Name == name
}

func literal(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok {
		if text, err := strconv.Unquote(lit.Value); err == nil {
			return text
		}
	}
	return "(not a literal)"
}
