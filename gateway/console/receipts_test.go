package console

import (
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

// receive adds a receipt to the record of the nth task of the batch spring, as the gateway does.
func (s *site) receive(n int, receipt tasks.DeliveryReceipt, status string, at time.Time) {
	s.Helper()
	id := fmt.Sprintf("spring-%d", n)
	_, err := s.Redis.Pipelined(s.Context(), func(p redis.Pipeliner) error {
		p.HSet(s.Context(), ledger.TaskKey(testApp, id), "receipt", fmt.Sprintf("%s %d %s", receipt, at.Unix(), status))
		p.HIncrBy(s.Context(), ledger.BatchKey(testApp, "spring"), "receipt:"+string(receipt), 1)
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// TestReceiptsOnPages: the page of a task says what its receipt means, and what to do; the page of its
// batch counts receipts and leads to the messages that have one.
func TestReceiptsOnPages(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb)
		s.batchOf(testApp, "spring", 5)
		for n := range 5 {
			s.endOf("spring", n, tasks.OutcomeAccepted, 0, "ok")
		}
		at := time.Now()
		s.receive(0, tasks.ReceiptDelivered, "success", at.Add(-time.Hour)) // by a clock that is behind
		s.receive(1, tasks.ReceiptBlocked, "failed:user block", at)
		s.receive(2, tasks.ReceiptFailed, "failed: "+script, at)
		s.receive(3, tasks.ReceiptDelivered, "success", at)
		u := s.as(readKey)
		const later = "WeChat tells that later"
		for id, want := range map[string][]string{
			"spring-0": {"delivered", "WeChat says that it was delivered.", "Nothing needs to be done."},
			"spring-1": {"blocked by the person", "does not take it", "failed:user block", "while the person blocks"},
			"spring-2": {"not delivered", "could not deliver it", "It is not sent again.", script},
			"spring-4": {"WeChat took it.", later},
		} {
			page := u.shows("/tasks/"+testApp+"/"+id, http.StatusOK, want...).body
			if has := strings.Contains(page, later); has != (id == "spring-4") {
				t.Errorf("%s: the page says that the receipt comes later: %v", id, has)
			}
			if strings.Contains(page, script) {
				t.Errorf("%s: WeChat's text is not escaped", id)
			}
		}
		page := u.get("/tasks/" + testApp + "/spring-0").body
		if ended, received := strings.Index(page, `<li class="ended">`), strings.Index(page, `<li class="receipt">`); ended < 0 || received < ended {
			t.Errorf("in the history the receipt (%d) does not follow the outcome (%d)", received, ended)
		}
		u.speaking("zh-CN").shows("/tasks/"+testApp+"/spring-1", http.StatusOK, "被用户拒收", "微信回执：用户拒收该消息。", "用户拒收期间")

		find := "/find?app=" + testApp + "&batch=spring&status=receipt-"
		u.shows("/batches/"+testApp+"/spring", http.StatusOK, "Receipts", "40%", "20%", "no receipt yet", find+"delivered", find+"blocked", find+"failed")
		u.speaking("zh-CN").shows("/batches/"+testApp+"/spring", http.StatusOK, "回执", "还没有回执")
	})
}

// countReceipts counts 100 messages of each app in one minute, 71 of them with a receipt.
func countReceipts(log *slog.Logger, rdb redis.UniversalClient, apps ...string) (*series.Recorder, time.Time) {
	for {
		recorder, now := series.NewRecorder(rdb, log), time.Now()
		for _, app := range apps {
			for range 100 {
				recorder.Add(app, tasks.TypeSubscribe, string(tasks.OutcomeAccepted), 0)
			}
			recorder.Add(app, tasks.TypeCustom, string(tasks.OutcomeAccepted), 0) // has no receipts
			recorder.Add(app, tasks.TypeSubscribe, string(tasks.OutcomeRefused), 43101)
			for range 70 {
				recorder.AddReceipt(app, tasks.TypeSubscribe, string(tasks.ReceiptDelivered), now)
			}
			recorder.AddReceipt(app, tasks.TypeSubscribe, string(tasks.ReceiptBlocked), now)
		}
		if time.Now().Truncate(time.Minute).Equal(now.Truncate(time.Minute)) {
			return recorder, now
		}
	}
}

// TestReceiptsByHour: the overview has the messages of the last day by hour, with their receipts and
// how many have none, of apps with a callback and without the last minutes.
func TestReceiptsByHour(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s := newSite(t, rdb, func(d *Deps) {
			d.Apps = func() []App { return []App{{ID: testApp, Receipts: true}, {ID: otherApp}} }
		})
		recorder, now := countReceipts(s.Log, rdb, testApp, otherApp)
		recorder.Flush(t.Context())
		all := func(string) bool { return true }
		read := func(at time.Time) receiptsView {
			t.Helper()
			reading, err := s.console.readReceipts(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			return newReceipts(reading, s.Apps(), all)
		}
		for _, ago := range []time.Duration{0, 4 * time.Minute} {
			if v := read(now.Add(ago)); !v.On || len(v.Rows) > 0 || v.Missing {
				t.Errorf("after %v messages count whose receipts may be on their way: %+v", ago, v)
			}
		}
		want := receiptCounts{Accepted: 100, Delivered: 70, Blocked: 1, Without: 29}
		for _, ago := range []time.Duration{10 * time.Minute, 3 * time.Hour} {
			v := read(now.Add(ago))
			if len(v.Rows) != 1 || v.Rows[0] != (receiptRow{App: testApp, Type: tasks.TypeSubscribe, receiptCounts: want}) || !v.Missing {
				t.Errorf("after %v: %+v", ago, v.Rows)
			}
			var sum receiptCounts
			for _, hour := range v.Hours {
				if sum.Accepted, sum.Without = sum.Accepted+hour.Accepted, sum.Without+hour.Without; !hour.At.Equal(hour.At.Truncate(time.Hour)) {
					t.Errorf("an hour begins at %v", hour.At)
				}
			}
			if sum.Accepted != 100 || sum.Without != 29 {
				t.Errorf("after %v by hour: %+v", ago, v.Hours)
			}
		}
		if v := newReceipts(receiptReading{}, s.Apps(), func(app string) bool { return app == otherApp }); v.On {
			t.Error("receipts of an app without a callback are on")
		}
		s.as(readKey).shows("/", http.StatusOK, "Receipts, last 24 hours")
		if page := s.as(readKey).get("/?app=" + otherApp).body; strings.Contains(page, "Receipts, last 24 hours") {
			t.Error("the overview of an app without a callback has receipts")
		}
	})
}
