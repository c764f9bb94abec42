package campaign_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

// people is a table of n rows.
func people(n int) string {
	var b strings.Builder
	b.WriteString("openid,姓名,张数\n")
	for i := range n {
		fmt.Fprintf(&b, "o%d,王小明,%d\n", i, i)
	}
	return b.String()
}

// pending returns the number of tasks that are due.
func pending(t *testing.T, rdb redis.UniversalClient) int64 {
	t.Helper()
	return rdb.LLen(t.Context(), "asynq:{"+tasks.QueueName(testApp, "send:subscribe", tasks.Urgent)+"}:pending").Val()
}

func stateOf(t *testing.T, s *campaign.Sender, c *campaign.Checked) campaign.State {
	t.Helper()
	state, err := s.State(t.Context(), c)
	must(t, err)
	return state
}

// A repeated run continues: each person gets one task, also when the table has changed and after the
// records of the tasks have expired.
func TestRepeatedRun(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sender := campaign.NewSender(rdb)
		sender.SetChunk(10)
		c := check(t, people(25), message)
		if state := stateOf(t, sender, c); !state.Started.IsZero() || state.Remaining != 25 || state.Err(false) != nil {
			t.Errorf("before: %+v", state)
		}
		var seen []int
		sent, err := sender.Send(t.Context(), c, campaign.SendOptions{OnProgress: func(s campaign.Sent) { seen = append(seen, s.Enqueued) }})
		if err != nil || sent != (campaign.Sent{Enqueued: 25}) || !slices.Equal(seen, []int{10, 20, 25}) {
			t.Fatalf("%+v %v %v", sent, seen, err)
		}
		again := func(text, template string, accept bool, want campaign.Sent, wantErr error) {
			t.Helper()
			c := check(t, text, template)
			sent, err := sender.Send(t.Context(), c, campaign.SendOptions{AcceptChange: accept})
			if sent != want || !errors.Is(err, wantErr) {
				t.Errorf("%+v %v, want %+v %v", sent, err, want, wantErr)
			}
		}
		again(people(25), message, false, campaign.Sent{Earlier: 25}, nil)
		again(people(26), message, false, campaign.Sent{}, campaign.ErrChanged)
		again(people(25), message+"priority: bulk\n", false, campaign.Sent{}, campaign.ErrChanged)
		again(people(26), message, true, campaign.Sent{Enqueued: 1, Earlier: 25}, nil)
		again(people(26), message, false, campaign.Sent{Earlier: 26}, nil)

		// As after their retention, the tasks and the batch are gone.
		keys, err := rdb.Keys(t.Context(), "*").Result()
		must(t, err)
		for _, key := range keys {
			if !strings.Contains(key, ":campaign") {
				must(t, rdb.Del(t.Context(), key).Err())
			}
		}
		again(people(26), message, false, campaign.Sent{Earlier: 26}, nil)
		if n := pending(t, rdb); n != 0 {
			t.Errorf("%d tasks were enqueued again", n)
		}
		if p, err := sender.Progress(t.Context(), c.Plan); err != nil || !p.Gone || !p.Drained() {
			t.Errorf("%+v %v", p, err)
		}
	})
}

// What Redis keeps of a campaign expires, and costs 8 bytes a row.
func TestRecordSize(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	_, err := campaign.NewSender(rdb).Send(t.Context(), check(t, people(150), message), campaign.SendOptions{})
	must(t, err)
	key := ledger.BatchKey(testApp, "spring") + ":campaign"
	if n := rdb.StrLen(t.Context(), key+":sent").Val(); n != 150*8 {
		t.Errorf("%d bytes", n)
	}
	for _, key := range []string{key, key + ":sent"} {
		if ttl := rdb.TTL(t.Context(), key).Val(); ttl < 80*24*time.Hour {
			t.Errorf("%s expires in %v", key, ttl)
		}
	}
	if n := rdb.Exists(t.Context(), key+":unsure").Val(); n != 0 {
		t.Error("rows are unsure after a run that ended")
	}
	for k, v := range rdb.HGetAll(t.Context(), key).Val() {
		if strings.Contains(v, "王") || strings.Contains(v, "o1") {
			t.Errorf("%s holds %q", k, v)
		}
	}
}

// A run was killed while it enqueued rows. Those that are enqueued are not enqueued again; the others
// are, unless the records that would tell have expired meanwhile.
func TestKilledWhileEnqueuing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sender, c := campaign.NewSender(rdb), check(t, people(3), message)
		_, err := sender.Send(t.Context(), c, campaign.SendOptions{})
		must(t, err)
		key := ledger.BatchKey(testApp, "spring") + ":campaign"
		sent := rdb.Get(t.Context(), key+":sent").Val()
		// As if the second and the third row were being enqueued, and only the second one was.
		must(t, rdb.Set(t.Context(), key+":sent", sent[:8], 0).Err())
		must(t, rdb.Set(t.Context(), key+":unsure", sent[8:], 0).Err())
		queue := tasks.QueueName(testApp, "send:subscribe", tasks.Urgent)
		third := rdb.LIndex(t.Context(), "asynq:{"+queue+"}:pending", 0).Val()
		must(t, rdb.LRem(t.Context(), "asynq:{"+queue+"}:pending", 1, third).Err())
		must(t, rdb.Del(t.Context(), "asynq:{"+queue+"}:t:"+third).Err())
		_, id, _ := strings.Cut(third, ":")
		must(t, rdb.HDel(t.Context(), ledger.WaitingKey(testApp, id), id).Err())

		must(t, rdb.HSet(t.Context(), key, "unsure_at", time.Now().Add(-25*time.Hour).UnixMilli()).Err())
		late, err := sender.Send(t.Context(), c, campaign.SendOptions{Retention: 24 * time.Hour})
		if err != nil || late.Unsure != 1 || late.Earlier != 1 || pending(t, rdb) != 2 {
			t.Errorf("too late: %+v %v, %d pending", late, err, pending(t, rdb))
		}
		must(t, rdb.Set(t.Context(), key+":sent", sent[:8], 0).Err())
		must(t, rdb.Set(t.Context(), key+":unsure", sent[8:], 0).Err())
		must(t, rdb.HSet(t.Context(), key, "unsure_at", time.Now().UnixMilli()).Err())
		soon, err := sender.Send(t.Context(), c, campaign.SendOptions{Retention: 24 * time.Hour})
		if err != nil || soon.Unsure != 0 || soon.Enqueued != 2 || pending(t, rdb) != 3 {
			t.Errorf("in time: %+v %v, %d pending", soon, err, pending(t, rdb))
		}
	})
}

// A batch of something else, of another type, or that was canceled is not touched.
func TestOtherBatches(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sender, client := campaign.NewSender(rdb), tasks.NewClient(rdb)
		c := check(t, people(2), message)
		_, err := client.Submit(t.Context(), tasks.Envelope{
			Type: "send:subscribe", App: testApp, Batch: "spring", Body: []byte(`{"touser":"o1","template_id":"T","data":{"thing1":{"value":"a"}}}`),
		})
		must(t, err)
		if _, err := sender.Send(t.Context(), c, campaign.SendOptions{}); !errors.Is(err, campaign.ErrForeign) {
			t.Errorf("a batch of something else: %v", err)
		}
		other := c.Plan
		other.Batch = "summer"
		summer, err := campaign.Check(t.Context(), other, testNow)
		must(t, err)
		_, err = sender.Send(t.Context(), summer, campaign.SendOptions{})
		must(t, err)
		custom, err := campaign.Plan{App: testApp, Type: "send:custom", Batch: "summer", Table: c.Plan.Table, Template: parse(t, "body: {touser: '{{openid}}', msgtype: text, text: {content: a}}")}.Complete()
		must(t, err)
		checked, err := campaign.Check(t.Context(), custom, testNow)
		must(t, err)
		if _, err := sender.Send(t.Context(), checked, campaign.SendOptions{AcceptChange: true}); !errors.Is(err, campaign.ErrForeign) {
			t.Errorf("a batch of another type: %v", err)
		}
		_, err = client.CancelBatch(t.Context(), testApp, "summer")
		must(t, err)
		if _, err := sender.Send(t.Context(), summer, campaign.SendOptions{}); !errors.Is(err, campaign.ErrCanceled) {
			t.Errorf("a canceled batch: %v", err)
		}
	})
}

// A batch that is canceled while its rows are enqueued gets no more of them.
func TestCanceledWhileEnqueuing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sender := campaign.NewSender(rdb)
		sender.SetChunk(10)
		sent, err := sender.Send(t.Context(), check(t, people(25), message), campaign.SendOptions{OnProgress: func(campaign.Sent) {
			if _, err := tasks.NewClient(rdb).CancelBatch(t.Context(), testApp, "spring"); err != nil {
				t.Error(err)
			}
		}})
		if !errors.Is(err, campaign.ErrCanceled) || sent.Enqueued != 10 {
			t.Errorf("%+v %v", sent, err)
		}
	})
}

// A rate spreads the rows in whole seconds from the time on, and a run that continues does not
// exceed it together with the one before.
func TestRate(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sender := campaign.NewSender(rdb)
		plan := planFor(t, people(30), message)
		plan.Rate, plan.At = 10, time.Now().Add(time.Hour).Truncate(time.Second)
		send := func(text string) {
			t.Helper()
			plan.Table = openTable(t, text)
			c, err := campaign.Check(t.Context(), plan, time.Now())
			must(t, err)
			if _, err := sender.Send(t.Context(), c, campaign.SendOptions{AcceptChange: true}); err != nil {
				t.Fatal(err)
			}
		}
		send(people(25))
		send(people(30))
		key := "asynq:{" + tasks.QueueName(testApp, "send:subscribe", tasks.Urgent) + "}:scheduled"
		perSecond := make(map[int64]int)
		for _, z := range rdb.ZRangeWithScores(t.Context(), key, 0, -1).Val() {
			perSecond[int64(z.Score)-plan.At.Unix()]++
		}
		if want := fmt.Sprint(map[int64]int{0: 1, 1: 10, 2: 10, 3: 9}); fmt.Sprint(perSecond) != want {
			t.Errorf("%v, want %s", perSecond, want)
		}
	})
}

// Rows whose turn at the rate comes after their not_after are left out, and counted.
func TestTooLate(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		plan := planFor(t, people(30), message+"not_after: '2035-12-01T08:00:01+08:00'\n")
		plan.Rate, plan.At = 10, time.Date(2035, 12, 1, 0, 0, 0, 0, time.UTC)
		c, err := campaign.Check(t.Context(), plan, time.Now())
		must(t, err)
		sent, err := campaign.NewSender(rdb).Send(t.Context(), c, campaign.SendOptions{})
		if err != nil || sent != (campaign.Sent{Enqueued: 11, TooLate: 19}) {
			t.Errorf("%+v %v", sent, err)
		}
		for _, key := range []string{":campaign", ":campaign:sent"} { // the record outlives the last message
			if ttl := rdb.PTTL(t.Context(), ledger.BatchKey(testApp, "spring")+key).Val(); time.Now().Add(ttl).Before(plan.At) {
				t.Errorf("%s expires in %v", key, ttl)
			}
		}
	})
}

// The load of a campaign comes from the limits, the use of today, the queue, the replicas and the
// holds.
func TestReadLoad(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		limits := map[string]ratelimit.Limit{"send:subscribe": {PerSecond: 100, PerMinute: 1200, PerDay: 1000, Concurrency: 8}}
		limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), func(string) map[string]ratelimit.Limit { return limits },
			ratelimit.WithReserve(func(string) float64 { return 0.2 }))
		t.Cleanup(func() { _ = limiter.Close(t.Context()) })
		must(t, limiter.Learn(t.Context(), testApp, "send:subscribe", ratelimit.Learned{UsedToday: 300}))
		must(t, heartbeat.Beat(t.Context(), rdb, heartbeat.Replica{ID: "g", Kind: heartbeat.Gateway})) // delivers nothing
		holds := hold.NewStore(rdb)
		until := time.Now().Add(time.Hour).Truncate(time.Millisecond)
		for _, scope := range []string{hold.TemplateScope("T1"), hold.TemplateScope("T2"), "send:custom"} {
			_, err := holds.Set(t.Context(), hold.Hold{App: testApp, Scope: scope, Reason: "test", By: "me", Until: until})
			must(t, err)
		}
		sender := campaign.NewSender(rdb)
		ahead := planFor(t, people(7), message)
		ahead.Batch = "earlier"
		first, err := campaign.Check(t.Context(), ahead, time.Now())
		must(t, err)
		_, err = sender.Send(t.Context(), first, campaign.SendOptions{})
		must(t, err)
		for _, tt := range []struct {
			template string
			perDay   int64
		}{{message, 1000}, {message + "priority: bulk\n", 800}} {
			c := check(t, people(5), tt.template)
			load, situation, err := campaign.ReadLoad(t.Context(), campaign.LoadSource{Redis: rdb, Limiter: limiter, Holds: holds, Margin: 0.05}, c, stateOf(t, sender, c), testNow)
			must(t, err)
			if load.PerSecond != 95 || load.PerMinute != 1140 || load.PerDay != tt.perDay || load.UsedToday != 300 || load.Ahead != 7 || load.Rows != 5 || load.Parallel != 8 {
				t.Errorf("%+v", load)
			}
			if !load.HeldUntil.Equal(until) || load.Held || len(situation.Holds) != 1 || situation.Replicas != 0 {
				t.Errorf("%+v %+v", load, situation)
			}
		}
	})
}

// reportOf returns the rows of a report by their lines.
func reportOf(t *testing.T, s *campaign.Sender, c *campaign.Checked) map[string][]string {
	t.Helper()
	var out strings.Builder
	must(t, s.WriteReport(t.Context(), &out, c))
	text, hasBOM := strings.CutPrefix(out.String(), "\ufeff")
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || !hasBOM {
		t.Fatalf("BOM %v: %v", hasBOM, err)
	}
	if want := "line,receiver,id,state,outcome,errcode,errmsg,reason,msgid,rid,finished_at,problem,receipt,receipt_status,receipt_at"; strings.Join(rows[0], ",") != want {
		t.Errorf("header %q", rows[0])
	}
	byLine := make(map[string][]string)
	for _, row := range rows[1:] {
		byLine[row[0]] = row
	}
	return byLine
}

// The report has every row of the table, and no formula in any of its cells.
func TestReport(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		sender := campaign.NewSender(rdb)
		c := check(t, "openid,姓名,张数\n-o1,a,1\n@o1,a,2\n=o2,,1\n-o1,b,3\no3,a,2\no4,a,4\n", message)
		if c.Valid != 4 {
			t.Fatal(faults(c))
		}
		before := reportOf(t, sender, c)
		if len(before) != 6 || before["2"][3] != "not enqueued" || before["4"][3] != "at fault" {
			t.Errorf("before: %q", before)
		}
		_, err := sender.Send(t.Context(), c, campaign.SendOptions{})
		must(t, err)
		settle := func(line string, result string) {
			t.Helper()
			id := before[line][2]
			_, err := ledger.New(rdb, ledger.Policy{Retention: time.Hour}).Settle(t.Context(), ledger.Ref{App: testApp, ID: id, Batch: "spring"},
				ledger.SettleRequest{Outcome: "rejected", Result: []byte(`{"id":"` + id + `","app":"` + testApp + `","type":"send:subscribe","state":"done",` + result + `}`)})
			must(t, err)
		}
		settle("2", `"outcome":"accepted","errcode":0,"errmsg":"ok","msgid":"3395159288267931652","finished_at":"2026-12-01T00:00:05Z"`)
		settle("3", `"outcome":"rejected","errcode":-1,"errmsg":"=HYPERLINK(\"x\")\nb","rid":"-rid"`)
		rdb.HSet(t.Context(), ledger.TaskKey(testApp, before["2"][2]), "receipt", "blocked 1796083300 failed:user block")
		after := reportOf(t, sender, c)
		for line, want := range map[string][]string{
			"2": {"2", "'-o1", before["2"][2], "done", "accepted", "0", "ok", "", "'3395159288267931652", "", "2026-12-01 08:00:05", "", "blocked", "failed:user block", "2026-12-01 08:01:40"},
			"3": {"3", "'@o1", before["3"][2], "done", "rejected", "-1", `'=HYPERLINK("x")\nb`, "", "", "'-rid", "", "", "", "", ""},
			"5": {"5", "'-o1", "", "at fault", "", "", "", "", "", "", "", "the same receiver as in an earlier row (line 2)", "", "", ""},
			"6": {"6", "o3", before["6"][2], "waiting", "", "", "", "", "", "", "", "", "", "", ""},
		} {
			got := after[line]
			if !slices.Equal(got, want) {
				t.Errorf("line %s:\n%q, want\n%q", line, got, want)
			}
		}
		for line, row := range after {
			for _, cell := range row {
				if cell != "" && strings.ContainsAny(cell[:1], "=+-@\t\r") && cell != "-1" {
					t.Errorf("line %s: %q is a formula", line, cell)
				}
			}
		}
	})
}
