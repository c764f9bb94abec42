package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/configs"
)

// buttonPresser presses asynqmon's buttons. It is not safe for concurrent use.
type buttonPresser struct {
	w         *world
	rng       *rand.Rand
	monitor   http.Handler
	removed   *removals
	next      []button
	deleted   map[string]bool // by id: deleted from asynq and not enqueued again
	pressed   map[string]int  // by button
	effective map[string]int  // by button: presses that changed something
}

// removals is a go-redis hook that records which tasks an asynq script removes from a list. The
// script returns only their number. The list is read in the same transaction.
type removals struct {
	rdb redis.UniversalClient
	on  bool // while a button that deletes a whole list is pressed
	ids []string
}

func (r *removals) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *removals) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *removals) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !r.on || (cmd.Name() != "evalsha" && cmd.Name() != "eval") {
			return next(ctx, cmd)
		}
		key := fmt.Sprint(cmd.Args()[3])
		pipe := r.rdb.TxPipeline()
		list := pipe.ZRange(ctx, key, 0, -1)
		if strings.HasSuffix(key, ":pending") {
			list = pipe.LRange(ctx, key, 0, -1)
		}
		_ = pipe.Process(ctx, cmd)
		_, _ = pipe.Exec(ctx) // each command has its own error
		if cmd.Err() == nil {
			r.ids = append(r.ids, list.Val()...)
		}
		return cmd.Err()
	}
}

// monitorRedis gives asynqmon clients with the hook.
type monitorRedis struct {
	configs.Redis
	removed *removals
}

// MakeRedisClient implements asynq.RedisConnOpt.
func (m monitorRedis) MakeRedisClient() any {
	rdb := m.NewClient()
	rdb.AddHook(m.removed)
	return rdb
}

func (w *world) buttonPresser(rng *rand.Rand) *buttonPresser {
	w.t.Helper()
	removed := &removals{rdb: w.rdb}
	monitor := asynqmon.New(asynqmon.Options{RootPath: "/monitor", RedisConnOpt: monitorRedis{w.redis, removed}})
	w.t.Cleanup(func() { _ = monitor.Close() })
	p := &buttonPresser{
		w: w, rng: rng, monitor: monitor, removed: removed,
		deleted: make(map[string]bool), pressed: make(map[string]int), effective: make(map[string]int),
	}
	for _, i := range rng.Perm(len(buttons())) { // each button once, before the random ones
		p.next = append(p.next, buttons()[i])
	}
	return p
}

// press presses the next button on a random target.
func (p *buttonPresser) press() {
	p.w.t.Helper()
	if len(p.next) == 0 {
		for _, b := range buttons() {
			p.next = append(p.next, slices.Repeat([]button{b}, b.weight)...)
		}
		p.rng.Shuffle(len(p.next), func(i, j int) { p.next[i], p.next[j] = p.next[j], p.next[i] })
	}
	b := p.next[0]
	p.next = p.next[1:]
	queue, ids := p.target(b)
	p.click(b, queue, ids)
}

// target chooses a queue, and tasks of the button's list in it. Sometimes the tasks are from another
// list, as when a page is outdated.
func (p *buttonPresser) target(b button) (queue string, ids []string) {
	p.w.t.Helper()
	queues, err := p.w.queues()
	must(p.w.t, err)
	list := b.list
	if list != "" && p.rng.IntN(10) == 0 {
		list = []string{activeTasks, "pending_tasks", "retry_tasks", "archived_tasks"}[p.rng.IntN(4)]
	}
	for _, i := range p.rng.Perm(len(queues)) {
		queue = queues[i]
		if b.kind() == deleteQueue {
			if p.w.rdb.SIsMember(p.w.t.Context(), "asynq:queues", queue).Val() && p.w.empty(queue) {
				break // asynqmon refuses all others
			}
			continue
		}
		if list == "" {
			break
		}
		if ids = p.w.listed(queue, list); len(ids) > 0 {
			break
		}
	}
	if list == "" {
		return queue, nil
	}
	p.rng.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	if len(ids) == 0 {
		ids = []string{mini + ":nothing"}
	}
	return queue, ids[:min(len(ids), 1+p.rng.IntN(5))]
}

// listed returns the ids on one of asynqmon's lists.
func (w *world) listed(queue, list string) (ids []string) {
	w.t.Helper()
	key := "asynq:{" + queue + "}:"
	var err error
	switch state := strings.TrimSuffix(list, "_tasks"); state {
	case "active", "pending":
		ids, err = w.rdb.LRange(w.t.Context(), key+state, 0, -1).Result()
	case "groups/{gname}/aggregating":
		ids, err = w.rdb.ZRange(w.t.Context(), key+"g:"+group, 0, -1).Result()
	default:
		ids, err = w.rdb.ZRange(w.t.Context(), key+state, 0, -1).Result()
	}
	must(w.t, err)
	return ids
}

// empty reports whether a queue has no tasks except completed ones.
func (w *world) empty(queue string) bool {
	w.t.Helper()
	for list := range taskLists() {
		if list != "completed_tasks" && len(w.listed(queue, list)) > 0 {
			return false
		}
	}
	return len(w.listed(queue, activeTasks)) == 0
}

// click presses a button and records its effect.
func (p *buttonPresser) click(b button, queue string, ids []string) {
	p.w.t.Helper()
	first := ""
	if len(ids) > 0 {
		first = ids[0]
	}
	path := strings.NewReplacer("{qname}", queue, "{gname}", group, "{task_id}", first).Replace(b.path)
	body := "{}"
	if strings.Contains(b.path, ":batch_") {
		text, err := json.Marshal(map[string][]string{"task_ids": ids})
		must(p.w.t, err)
		body = string(text)
	}
	p.removed.on, p.removed.ids = b.removes && strings.HasSuffix(b.path, "_all"), nil
	answer := httptest.NewRecorder()
	p.monitor.ServeHTTP(answer, httptest.NewRequestWithContext(p.w.t.Context(), b.method, "/monitor/api"+path, strings.NewReader(body)))
	p.removed.on = false
	p.pressed[b.String()]++
	switch answer.Code {
	case http.StatusOK, http.StatusNoContent:
		p.record(b, ids, answer)
	case http.StatusNotFound, http.StatusBadRequest, http.StatusInternalServerError: // the button had no effect
		if text := answer.Body.String(); text == "" || strings.Contains(text, "page not found") {
			p.w.t.Errorf("%s: %d %q", b, answer.Code, text)
		}
	default:
		p.w.t.Errorf("%s: %d %s", b, answer.Code, answer.Body.String())
	}
}

// monitorAnswer is asynqmon's response to a button that changes several tasks.
type monitorAnswer struct {
	Deleted     int      `json:"deleted"`
	Scheduled   int      `json:"scheduled"`
	Archived    int      `json:"archived"`
	DeletedIDs  []string `json:"deleted_ids"`
	PendingIDs  []string `json:"pending_ids"`
	ArchivedIDs []string `json:"archived_ids"`
	CanceledIDs []string `json:"canceled_ids"`
}

// record records whether a button changed something, and which tasks it deleted.
func (p *buttonPresser) record(b button, ids []string, answer *httptest.ResponseRecorder) {
	p.w.t.Helper()
	changed := monitorAnswer{Scheduled: 1} // one task or one queue
	if answer.Code == http.StatusOK {
		changed = monitorAnswer{}
		must(p.w.t, json.Unmarshal(answer.Body.Bytes(), &changed))
	} else if b.removes {
		changed.DeletedIDs = ids[:1]
	}
	if changed.Deleted != len(p.removed.ids) {
		p.w.t.Errorf("%s: asynqmon reports %d deleted tasks, the hook saw %d", b, changed.Deleted, len(p.removed.ids))
	}
	for _, id := range append(changed.DeletedIDs, p.removed.ids...) {
		_, short, _ := strings.Cut(id, ":")
		p.deleted[short] = true
	}
	if changed.Deleted+changed.Scheduled+changed.Archived+
		len(changed.DeletedIDs)+len(changed.PendingIDs)+len(changed.ArchivedIDs)+len(changed.CanceledIDs) > 0 {
		p.effective[b.String()]++
	}
}

// resumeAll resumes every queue and runs all archived and grouped tasks. Deleted queues are first added
// to asynq's set again, as the next producer would do.
func (p *buttonPresser) resumeAll() {
	p.w.t.Helper()
	queues, err := p.w.queues()
	must(p.w.t, err)
	must(p.w.t, p.w.rdb.SAdd(p.w.t.Context(), "asynq:queues", queues).Err())
	for _, b := range buttons() {
		if strings.HasSuffix(b.path, ":resume") || strings.HasSuffix(b.path, ":run_all") {
			for _, queue := range queues {
				p.click(b, queue, nil)
			}
		}
	}
}

// logCounts logs the presses of each button. It fails when a button was never pressed, or when no
// button of a kind had an effect.
func (p *buttonPresser) logCounts() {
	p.w.t.Helper()
	kinds := make(map[string]int)
	for _, b := range buttons() {
		name := b.String()
		p.w.t.Logf("%5d pressed, %5d effective: %s", p.pressed[name], p.effective[name], name)
		if p.pressed[name] == 0 {
			p.w.t.Errorf("%s was never pressed", name)
		}
		kinds[b.kind()] += p.effective[name]
	}
	for kind, effective := range kinds {
		if effective == 0 {
			p.w.t.Errorf("%q never changed anything: the test is inconclusive", kind)
		}
	}
}
