package ledger_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// acceptedBy records that WeChat accepted a task with a msgid whose receipt is awaited.
func acceptedBy(t *testing.T, l *ledger.Ledger, ref ledger.Ref, msgid string) {
	t.Helper()
	must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("runner")))
	e := ledger.SettleRequest{Outcome: "accepted", Result: fmt.Appendf(nil, `{"id":%q,"msgid":%q}`, ref.ID, msgid), Queue: queue}
	e.AwaitReceipt(msgid, "oPerson")
	if s := must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, e)); !s.Written {
		t.Fatal(s)
	}
}

// receiptOf returns the request that adds a receipt to the task with a msgid.
func receiptOf(t *testing.T, l *ledger.Ledger, msgid, kind string) ledger.ReceiptRequest {
	t.Helper()
	found := must[[]ledger.MsgIDTask](t)(l.FindMsgIDs(t.Context(), app, []string{msgid}))
	return ledger.ReceiptRequest{
		MsgIDTask: found[0], MsgID: msgid, Entry: []byte(`{"receipt":"` + kind + `"}`),
		Receipt: ledger.Receipt{Kind: kind, Status: "failed:user block", At: time.Unix(1_800_000_000, 0).UTC()},
	}
}

// entries returns the entries of the app's stream.
func entries(t *testing.T, rdb redis.UniversalClient) (all []string) {
	t.Helper()
	for _, m := range must[[]redis.XMessage](t)(rdb.XRange(t.Context(), ledger.StreamKey(app), "-", "+").Result()) {
		text, _ := m.Values["result"].(string)
		all = append(all, text)
	}
	return all
}

func testReceipts(t *testing.T, rdb redis.UniversalClient) {
	l := newLedger(rdb, time.Minute)
	inBatch, alone := ledger.Ref{App: app, ID: "1", Batch: "b"}, ledger.Ref{App: app, ID: "2"}
	acceptedBy(t, l, inBatch, "3395159288267931652")
	acceptedBy(t, l, alone, "3395159288267931653")
	requests := []ledger.ReceiptRequest{
		receiptOf(t, l, "3395159288267931652", "blocked"), receiptOf(t, l, "3395159288267931653", "delivered"),
	}
	if r := requests[0]; r.Ref != inBatch || r.Queue != queue || requests[1].Ref != alone {
		t.Errorf("found %+v", requests)
	}
	for i, want := range []ledger.ReceiptState{ledger.ReceiptWritten, ledger.ReceiptKept} {
		for _, r := range l.AddReceipts(t.Context(), app, requests) {
			if r.Err != nil || r.State != want || json.Valid(r.Result) != (want == ledger.ReceiptWritten) {
				t.Errorf("call %d: %+v", i, r)
			}
		}
	}
	for _, r := range requests {
		record := must[ledger.Record](t)(l.Record(t.Context(), app, r.ID))
		if record.Receipt != r.Receipt || record.Outcome != "accepted" {
			t.Errorf("record %+v", record)
		}
		if found := must[[]ledger.MsgIDTask](t)(l.FindMsgIDs(t.Context(), app, []string{r.MsgID})); found[0].ID != "" {
			t.Errorf("the msgid is still kept: %+v", found)
		}
	}
	if all := entries(t, rdb); len(all) != 4 || all[2] != `{"receipt":"blocked"}` {
		t.Errorf("entries %q", all)
	}
	counts := must[map[string]int64](t)(l.Batch(t.Context(), app, "b"))
	if counts["accepted"] != 1 || counts["receipt:blocked"] != 1 || counts["done"] != 1 {
		t.Errorf("counters %v", counts)
	}
}

func TestReceipts(t *testing.T) {
	redistest.Each(t, testReceipts)
	t.Run("cluster", func(t *testing.T) { testReceipts(t, redistest.StartCluster(t)) })
}

// TestReceiptOfAnotherMessage: the record of a message has expired, and its id was used again.
func TestReceiptOfAnotherMessage(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, ref := newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1", Batch: "b"}
		acceptedBy(t, l, ref, "11")
		late := receiptOf(t, l, "11", "delivered")
		gone := func(when string) {
			t.Helper()
			if r := l.AddReceipts(t.Context(), app, []ledger.ReceiptRequest{late})[0]; r.Err != nil || r.State != ledger.ReceiptGone {
				t.Errorf("%s: %+v", when, r)
			}
		}
		must[int64](t)(rdb.Del(t.Context(), ledger.TaskKey(app, "1")).Result())
		gone("the record has expired")
		must[ledger.Claim](t)(l.Mark(t.Context(), ref, queue, "waiting"))
		gone("the id waits again")
		must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("another")))
		gone("the id is sent again")
		acceptedBy(t, l, ledger.Ref{App: app, ID: "2"}, "22")
		must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, ledger.SettleRequest{Outcome: "accepted", Result: []byte(`{"msgid":"111","errmsg":",\"msgid\":\"11\""}`), Queue: queue}))
		gone("the id was accepted again")
		if record := must[ledger.Record](t)(l.Record(t.Context(), app, "1")); record.Receipt != (ledger.Receipt{}) {
			t.Errorf("record %+v", record)
		}
	})
}

// TestReceiptAndOverwrittenKeys: keys are overwritten by another program.
func TestReceiptAndOverwrittenKeys(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		acceptedBy(t, l, ledger.Ref{App: app, ID: "1", Batch: "b"}, "11")
		acceptedBy(t, l, ledger.Ref{App: app, ID: "2"}, "22")
		requests := []ledger.ReceiptRequest{receiptOf(t, l, "11", "delivered"), receiptOf(t, l, "22", "failed")}
		stream := must[[]redis.XMessage](t)(rdb.XRange(t.Context(), ledger.StreamKey(app), "-", "+").Result())
		overwrite := func(key string) {
			rdb.Del(t.Context(), key)
			must[string](t)(rdb.Set(t.Context(), key, "x", 0).Result())
		}

		overwrite(ledger.StreamKey(app))
		for i, r := range l.AddReceipts(t.Context(), app, requests) {
			if !redis.HasErrorPrefix(r.Err, "WRONGTYPE") {
				t.Errorf("%+v", r)
			}
			if record := must[ledger.Record](t)(l.Record(t.Context(), app, requests[i].ID)); record.Receipt != (ledger.Receipt{}) {
				t.Errorf("half written: %+v", record)
			}
		}
		rdb.Del(t.Context(), ledger.StreamKey(app))
		overwrite(ledger.TaskKey(app, "2"))
		overwrite(ledger.BatchKey(app, "b"))
		results := l.AddReceipts(t.Context(), app, []ledger.ReceiptRequest{requests[1], requests[0]})
		if !redis.HasErrorPrefix(results[0].Err, "WRONGTYPE") || results[1].State != ledger.ReceiptWritten {
			t.Errorf("%+v", results)
		}
		if len(stream) != 2 || len(entries(t, rdb)) != 1 {
			t.Errorf("entries %q", entries(t, rdb))
		}
	})
}

// TestReceiptOfAnExpiredBatch: counting a receipt does not create the batch again.
func TestReceiptOfAnExpiredBatch(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute)
		acceptedBy(t, l, ledger.Ref{App: app, ID: "1", Batch: "b"}, "11")
		rdb.Del(t.Context(), ledger.BatchKey(app, "b"))
		if r := l.AddReceipts(t.Context(), app, []ledger.ReceiptRequest{receiptOf(t, l, "11", "delivered")})[0]; r.State != ledger.ReceiptWritten {
			t.Errorf("%+v", r)
		}
		if n := must[int64](t)(rdb.Exists(t.Context(), ledger.BatchKey(app, "b")).Result()); n != 0 {
			t.Error("the batch is there again")
		}
	})
}

// TestReceiptWithoutMemory: an outcome is recorded while Redis has no memory left, with its msgid; its
// receipt is not, and is not lost.
func TestReceiptWithoutMemory(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	l, ref := newLedger(rdb, time.Minute), ledger.Ref{App: app, ID: "1"}
	must[ledger.OpenResult](t)(l.Open(t.Context(), ref, opening("runner")))
	must[string](t)(rdb.ConfigSet(t.Context(), "maxmemory", "1").Result())
	e := ledger.SettleRequest{Outcome: "accepted", Result: []byte(`{"id":"1","msgid":"11"}`), Queue: queue}
	e.AwaitReceipt("11", "")
	if s := must[ledger.SettleResult](t)(l.Settle(t.Context(), ref, e)); !s.Written {
		t.Fatal(s)
	}
	request := receiptOf(t, l, "11", "delivered")
	if r := l.AddReceipts(t.Context(), app, []ledger.ReceiptRequest{request})[0]; !redis.HasErrorPrefix(r.Err, "OOM") {
		t.Errorf("%+v", r)
	}
	if _, err := l.KeepEarly(t.Context(), app, []ledger.EarlyReceipt{{Text: "x", Due: time.Now()}}); err == nil {
		t.Error("an early receipt was kept")
	}
	must[string](t)(rdb.ConfigSet(t.Context(), "maxmemory", "0").Result())
	if r := l.AddReceipts(t.Context(), app, []ledger.ReceiptRequest{request})[0]; r.State != ledger.ReceiptWritten {
		t.Errorf("%+v", r)
	}
}

// TestReceiptsTrimTheStream: the stream stays within its maximum length where receipts are added.
func TestReceiptsTrimTheStream(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l := newLedger(rdb, time.Minute) // StreamMax 100
		var requests []ledger.ReceiptRequest
		for i := range 300 {
			msgid := fmt.Sprint(1000 + i)
			acceptedBy(t, l, ledger.Ref{App: app, ID: msgid}, msgid)
			requests = append(requests, receiptOf(t, l, msgid, "delivered"))
		}
		for _, r := range l.AddReceipts(t.Context(), app, requests) {
			if r.State != ledger.ReceiptWritten {
				t.Errorf("%+v", r)
			}
		}
		if n := must[int64](t)(rdb.XLen(t.Context(), ledger.StreamKey(app)).Result()); n > 100+200 { // Redis trims whole nodes
			t.Errorf("%d entries", n)
		}
	})
}

func TestMsgIDs(t *testing.T) {
	for msgid, valid := range map[string]bool{
		"1": true, "3395159288267931652": true, "": false, "0": false, "000": false, "-1": false, "1 2": false, "x": false,
		"123456789012345678901234567890123": false,
	} {
		if ledger.ValidMsgID(msgid) != valid {
			t.Errorf("%q", msgid)
		}
	}
}

func TestEarlyReceipts(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		l, now := newLedger(rdb, time.Minute), time.UnixMilli(1_800_000_000_123)
		keep := func(text string, after time.Duration) {
			t.Helper()
			must[int64](t)(l.KeepEarly(t.Context(), app, []ledger.EarlyReceipt{{Text: text, Due: now.Add(after)}}))
		}
		keep("b", 2*time.Second)
		keep("a", 3*time.Second)
		keep("c", time.Second)
		postponed := []ledger.EarlyReceipt{{Text: "c", Due: now.Add(4 * time.Second)}, {Text: "gone", Due: now}}
		if err := l.PostponeEarly(t.Context(), app, postponed); err != nil {
			t.Fatal(err)
		}
		early := must[map[string][]ledger.EarlyReceipt](t)(l.EarlyReceipts(t.Context(), []string{app, "wxother"}, 2))
		if got := early[app]; len(got) != 2 || got[0].Text != "b" || !got[1].Due.Equal(now.Add(3*time.Second)) || len(early["wxother"]) != 0 {
			t.Errorf("%+v", early)
		}
		if n := must[int64](t)(l.DropEarly(t.Context(), app, []string{"b", "x"})); n != 1 {
			t.Errorf("%d dropped", n)
		}
		if ttl := must[time.Duration](t)(rdb.TTL(t.Context(), "wxcourier:{"+app+"}:early").Result()); ttl <= 0 {
			t.Errorf("expiry %v", ttl)
		}
	})
}
