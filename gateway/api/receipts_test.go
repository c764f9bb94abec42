package api_test

import (
	"encoding/json"
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

// receive adds a receipt to a task and to the stream of its app.
func (f *fixture) receive(id, batch string, receipt tasks.DeliveryReceipt) {
	f.Helper()
	r := tasks.Result{
		ID: id, App: app, Type: tasks.TypeCustom, Batch: batch, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted, MsgID: "77",
		Receipt: receipt, ReceiptStatus: "a status", ReceiptAt: time.Unix(1_800_000_002, 0),
	}
	f.rdb.HSet(f.Context(), ledger.TaskKey(app, id), "receipt", string(receipt)+" 1800000002 a status")
	if err := f.rdb.XAdd(f.Context(), &redis.XAddArgs{Stream: ledger.StreamKey(app), Values: []any{"result", r.Encode()}}).Err(); err != nil {
		f.Fatal(err)
	}
}

// TestListReceipts: a receipt is an item of its own, which filters of outcomes leave out.
func TestListReceipts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.record("*", tasks.Result{ID: "a", Batch: "sale"})
		f.record("*", tasks.Result{ID: "b", Outcome: tasks.OutcomeRefused, ErrCode: 43101})
		f.receive("a", "sale", tasks.ReceiptBlocked)
		f.receive("c", "", tasks.ReceiptDelivered)
		for query, want := range map[string]string{
			"": "a b a:blocked c:delivered", "outcome=accepted": "a", "errcode=43101": "b", "receipt=blocked": "a:blocked",
			"receipt=blocked&receipt=delivered": "a:blocked c:delivered", "outcome=refused&receipt=blocked": "b a:blocked",
			"batch=sale": "a a:blocked", "type=send:subscribe": "",
		} {
			var got []string
			for _, r := range f.page(query).Items {
				text := r.ID
				if r.IsReceipt() {
					text += ":" + string(r.Receipt)
				}
				got = append(got, text)
			}
			if text := strings.Join(got, " "); text != want {
				t.Errorf("%q: %q, want %q", query, text, want)
			}
		}
		f.problem(f.do(http.MethodGet, "/v1/results?receipt=none", ""), http.StatusUnprocessableEntity)
		if csv := f.do(http.MethodGet, "/v1/results?format=csv&receipt=blocked", "").body; !strings.Contains(csv, "blocked,a status,") {
			t.Error(csv)
		}
	})
}

// TestTaskHasReceipt: the task's own page has the outcome with the receipt.
func TestTaskHasReceipt(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		f.do(http.MethodPost, "/v1/tasks", envelope("a"))
		f.end("a", tasks.OutcomeAccepted)
		f.receive("a", "", tasks.ReceiptFailed)
		a := f.do(http.MethodGet, "/v1/tasks/"+app+"/a", "")
		r := decode[tasks.Result](f, a.body)
		if a.status != http.StatusOK || r.Receipt != tasks.ReceiptFailed || r.ReceiptStatus != "a status" || r.ReceiptAt.Unix() != 1_800_000_002 || r.IsReceipt() {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
}

// TestReceiptSeries: what became of accepted messages, by hour and type.
func TestReceiptSeries(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		f := newFixture(t, rdb)
		recorder := series.NewRecorder(rdb, slog.New(slog.DiscardHandler))
		for range 4 {
			recorder.Add(app, tasks.TypeSubscribe, "accepted", 0)
		}
		recorder.Add(app, tasks.TypeCustom, "accepted", 0) // has no receipt
		recorder.AddReceipt(app, tasks.TypeSubscribe, "delivered", time.Now())
		recorder.AddReceipt(app, tasks.TypeSubscribe, "blocked", time.Now())
		recorder.Flush(t.Context())
		var got struct {
			Step  string
			Items []series.ReceiptPoint
		}
		a := f.do(http.MethodGet, "/v1/series/receipts?from=3h", "")
		if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK || got.Step != "hour" {
			t.Fatal(a.status, a.body, err)
		}
		var sum series.ReceiptPoint // the hour may end meanwhile
		for _, p := range got.Items {
			sum.Accepted, sum.Delivered, sum.Blocked, sum.Without = sum.Accepted+p.Accepted, sum.Delivered+p.Delivered, sum.Blocked+p.Blocked, sum.Without+p.Without
		}
		if sum != (series.ReceiptPoint{Accepted: 4, Delivered: 1, Blocked: 1, Without: 2}) {
			t.Errorf("%s", a.body)
		}
		for _, path := range []string{"/v1/series/receipts?type=send:template", "/v1/series/receipts?type=send:custom&step=minute"} {
			if body := f.do(http.MethodGet, path, "").body; !strings.Contains(body, `"items":[]`) {
				t.Errorf("%s: %s", path, body)
			}
		}
		f.problem(f.do(http.MethodGet, "/v1/series/receipts?from=1h&to=2h", ""), http.StatusUnprocessableEntity)
	})
}

// TestBatchReceipts: the progress of a batch counts the receipts.
func TestBatchReceipts(t *testing.T) {
	_, rdb := redistest.Mini(t)
	f := newFixture(t, rdb)
	rdb.HSet(t.Context(), ledger.BatchKey(app, "sale"), "total", 5, "done", 5, "accepted", 4, "refused", 1, "receipt:delivered", 2, "receipt:blocked", 1)
	body := f.do(http.MethodGet, "/v1/batches/"+app+"/sale", "").body
	if want := `"receipts":{"blocked":1,"delivered":2}`; !strings.Contains(body, want) || !strings.Contains(body, `"outcomes":{"accepted":4,"refused":1}`) {
		t.Errorf("no %s in %s", want, body)
	}
}
