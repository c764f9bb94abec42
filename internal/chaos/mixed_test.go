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
	fault    string        // that its receiver's name asks the sandbox for, or ""
	outcome  tasks.Outcome // in place of accepted, or ""
	plain    bool          // enqueued by asynq's own client: it has no mark and no batch
}

// mainBatch is the batch of tasks that name no other one.
const mainBatch = "chaos"

// batchName is the task's batch.
func (s testTask) batchName() string { return cmp.Or(s.batch, mainBatch) }

// mixedKinds is what a mix is made of, in tenths.
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

// limitsFor is the calls in a second that let n mixed tasks last for about so many seconds.
func limitsFor(n, seconds int) map[string]int {
	limits := make(map[string]int)
	for _, k := range mixedKinds {
		if k.app != third { // a limit holds for each app
			limits[k.typ] += n/10/seconds + 1
		}
	}
	return limits
}

// What every receiver and every text of bodies begins with: none may reach a log.
const (
	openidPrefix = "otask-"
	textPrefix   = "text-of-"
)

// bodies has the task's id in each message, so that WeChat's ledger tells which it was.
var bodies = map[string]string{
	tasks.TypeSubscribe:     `{"touser":"o%[1]s","template_id":"T1","data":{"character_string1":{"value":"%[1]s"}}}`,
	tasks.TypeTemplate:      `{"touser":"o%[1]s","template_id":"T1","data":{"thing1":{"value":"%[1]s"}}}`,
	tasks.TypeCustom:        `{"touser":"o%[1]s","msgtype":"text","text":{"content":"text-of-%[1]s"}}`,
	tasks.TypeScheme:        `{"jump_wxa":{"path":"pages/index/index","query":"id=%[1]s"},"is_expire":true,"expire_type":1,"expire_interval":30}`,
	tasks.TypeTextCheck:     `{"openid":"o%[1]s","version":2,"scene":1,"content":"text-of-%[1]s"}`,
	tasks.TypeUnlimitedCode: `{"scene":"id=%[1]s"}`,
}

var idPattern = regexp.MustCompile(`task-\d+`)

// mixed writes a file of n tasks.
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
