package tasks

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestQueueNames(t *testing.T) {
	for _, row := range Catalog() {
		for _, p := range []Priority{Urgent, Bulk} {
			app, typ, got, ok := ParseQueue(QueueName(testApp, row.Type, p))
			if !ok || app != testApp || typ != row.Type || got != p {
				t.Errorf("%s %s: %s %s %s %v", row.Type, p, app, typ, got, ok)
			}
		}
	}
	if got := QueueName(testApp, TypeScheme, ""); got != testApp+":scheme:generate" {
		t.Errorf("no priority: %s", got)
	}
	for _, q := range []string{
		"", "default", testApp, testApp + ":", testApp + ":send", testApp + ":send:", testApp + "::x",
		testApp + ":send:subscribe:", testApp + ":send:subscribe:low", testApp + ":send:subscribe:bulk:bulk",
		testApp + ":Send:x", "wx0123456789abcdeg:send:subscribe", "x:send:subscribe",
	} {
		if app, typ, p, ok := ParseQueue(q); ok || app+typ+string(p) != "" {
			t.Errorf("%q parsed as %s %s %s", q, app, typ, p)
		}
	}
	if _, typ, p, ok := ParseQueue(testApp + ":send:bulk"); !ok || typ != "send:bulk" || p != Urgent {
		t.Error("a type may be called bulk")
	}
}

func TestLineID(t *testing.T) {
	line := []byte(goodLine)
	id := LineID(line, 0)
	if !strings.HasPrefix(id, "f") || strings.Contains(id, "-") || !ValidID(id) {
		t.Errorf("id %q", id)
	}
	if LineID([]byte("  "+goodLine+"\r\n"), 0) != id {
		t.Error("white space around a line makes another id")
	}
	others := []string{LineID(line, 1), LineID(line, 10), LineID(line[1:], 0), LineID(append(line, '0'), 0)}
	if slices.Contains(others, id) {
		t.Errorf("%s is not unique: %v", id, others)
	}
	if id != "f285fb57c431100d7921f5a26ee8cb874" {
		t.Errorf("ids must stay the same from version to version: %s", id)
	}
}

func TestNewID(t *testing.T) {
	a, b := newID(), newID()
	if a == b || !ValidID(a) || a != strings.ToLower(a) || a[0] != 't' || strings.Contains(a, "-") {
		t.Errorf("%s %s", a, b)
	}
}

func TestValidNames(t *testing.T) {
	if !ValidID(strings.Repeat("x", 128)) || ValidID("") || ValidID("a b") || ValidID("ä") {
		t.Error("ValidID")
	}
	if !ValidBatch("spring-sale_2026.1~x") || ValidBatch(strings.Repeat("x", 65)) {
		t.Error("ValidBatch")
	}
	if !ValidApp(testApp) || ValidApp("wx0123456789abcdeF") || ValidApp("") || ValidApp("ab0123456789abcdef") {
		t.Error("ValidApp")
	}
}

func TestResultJSON(t *testing.T) {
	waiting, err := json.Marshal(Result{ID: "i", App: testApp, Type: TypeScheme, State: StateWaiting})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"id":"i","app":"wx0123456789abcdef","type":"scheme:generate","state":"waiting","errcode":0,"errmsg":"","rid":"","attempts":0}`; string(waiting) != want {
		t.Errorf("got  %s\nwant %s", waiting, want)
	}
	at := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	full, err := json.Marshal(Result{
		ID: "i", App: testApp, Type: TypeScheme, Batch: "b", State: StateDone, Outcome: OutcomeAccepted,
		ErrCode: 1, ErrMsg: "m", RID: "r", Attempts: 2, MsgID: "3395159288267931652", OpenLink: "o", URLLink: "u",
		Link: "l", Image: "im", Suggest: "s", Label: "la", TraceID: "t", Reason: "re", Generation: 1,
		Supersedes: OutcomeUnknown, Receipt: ReceiptBlocked, ReceiptStatus: "failed:user block", ReceiptAt: at.Add(time.Minute),
		Fixed: []string{"f1", "f2"}, EnqueuedAt: at, FinishedAt: at.Add(time.Second),
		Last: &LastAnswer{ErrCode: -1, ErrMsg: "busy", RID: "r2", Class: "busy", At: at}, WaitsFor: WaitsForRetry, NextAt: at,
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":"i","app":"wx0123456789abcdef","type":"scheme:generate","batch":"b","state":"done","outcome":"accepted",` +
		`"errcode":1,"errmsg":"m","rid":"r","attempts":2,"msgid":"3395159288267931652","openlink":"o","url_link":"u",` +
		`"link":"l","image":"im","suggest":"s","label":"la","trace_id":"t","reason":"re","generation":1,` +
		`"supersedes":"unknown","receipt":"blocked","receipt_status":"failed:user block","receipt_at":"2026-12-01T08:01:00Z",` +
		`"fixed":["f1","f2"],"enqueued_at":"2026-12-01T08:00:00Z","finished_at":"2026-12-01T08:00:01Z",` +
		`"last":{"errcode":-1,"errmsg":"busy","rid":"r2","class":"busy","at":"2026-12-01T08:00:00Z"},` +
		`"waits_for":"retry","next_at":"2026-12-01T08:00:00Z"}`
	if string(full) != want {
		t.Errorf("got  %s\nwant %s", full, want)
	}
	var fields map[string]any
	if err := json.Unmarshal(full, &fields); err != nil || len(fields) != reflect.TypeFor[Result]().NumField() {
		t.Errorf("TestResultJSON gives values to %d fields of %d, %v", len(fields), reflect.TypeFor[Result]().NumField(), err)
	}
	if len(Outcomes()) != 7 || len(States()) != 5 || len(DeliveryReceipts()) != 3 {
		t.Error("an outcome, state or receipt is missing from its list")
	}
}
