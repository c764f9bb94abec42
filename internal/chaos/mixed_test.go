package chaos

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
)

// testTask is a task of a test.
type testTask struct {
	app, typ string
	batch    string        // "" is mainBatch
	fault    string        // triggered by its receiver's name; "": none
	outcome  tasks.Outcome // expected; "" is accepted
	plain    bool          // enqueued by asynq's client: it has no mark and no batch
}

// mainBatch is the default batch.
const mainBatch = "chaos"

// batchName returns the task's batch.
func (s testTask) batchName() string { return cmp.Or(s.batch, mainBatch) }

// mixedKinds is the composition of mixed, one tenth each.
var mixedKinds = []testTask{
	{app: mini, typ: tasks.TypeSubscribe},
	{app: mini, typ: tasks.TypeSubscribe},
	{app: mini, typ: tasks.TypeSubscribe},
	{app: mini, typ: tasks.TypeSubscribe},
	{app: mini, typ: tasks.TypeSubscribe},
	{app: third, typ: tasks.TypeSubscribe},
	{app: official, typ: tasks.TypeTemplate},
	{app: official, typ: tasks.TypeCustom},
	{app: official, typ: tasks.TypeCustom},
	{app: mini, typ: tasks.TypeScheme},
}

// limitsFor returns limits, in calls per second by type, with which n tasks of mixed take about that many
// seconds.
func limitsFor(n, seconds int) map[string]int {
	limits := make(map[string]int)
	for _, k := range mixedKinds {
		if k.app != third { // limits are per app
			limits[k.typ] += n/10/seconds + 1
		}
	}
	return limits
}

// Prefixes of all receivers and texts in bodies. They must not appear in logs.
const (
	openidPrefix = "otask-"
	textPrefix   = "text-of-"
)

// bodies contain the task's id, so that the sandbox's calls can be matched to tasks.
var bodies = map[string]string{
	tasks.TypeSubscribe:     `{"touser":"o%[1]s","template_id":"T1","data":{"character_string1":{"value":"%[1]s"}}}`,
	tasks.TypeTemplate:      `{"touser":"o%[1]s","template_id":"T1","data":{"thing1":{"value":"%[1]s"}}}`,
	tasks.TypeCustom:        `{"touser":"o%[1]s","msgtype":"text","text":{"content":"text-of-%[1]s"}}`,
	tasks.TypeScheme:        `{"jump_wxa":{"path":"pages/index/index","query":"id=%[1]s"},"is_expire":true,"expire_type":1,"expire_interval":30}`,
	tasks.TypeTextCheck:     `{"openid":"o%[1]s","version":2,"scene":1,"content":"text-of-%[1]s"}`,
	tasks.TypeUnlimitedCode: `{"scene":"id=%[1]s"}`,
}

var idPattern = regexp.MustCompile(`task-\d+`)

// mixed writes a file with n tasks.
func (w *world) mixed(n int) (all map[string]testTask, file string) {
	w.t.Helper()
	all = make(map[string]testTask, n)
	var lines strings.Builder
	for i := range n {
		id, k := fmt.Sprintf("task-%d", i), mixedKinds[i%len(mixedKinds)]
		all[id] = k
		priority := tasks.Urgent
		if i%7 == 0 {
			priority = tasks.Bulk
		}
		fmt.Fprintf(&lines, `{"type":%q,"app":%q,"id":%q,"priority":%q,"batch":%q,"body":%s}`+"\n", k.typ, k.app, id, priority, mainBatch, fmt.Sprintf(bodies[k.typ], id))
	}
	file = filepath.Join(w.t.TempDir(), "tasks.jsonl")
	must(w.t, os.WriteFile(file, []byte(lines.String()), 0o600))
	return all, file
}
