package tasks

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

func subscribePayload() SubscribePayload {
	return SubscribePayload{ToUser: "oAbc", TemplateID: "T1", Data: Data{"thing1": {Value: "A & B <订单>"}}}
}

// TestTaskThroughPlainClient: a plain asynq.Client can enqueue a task without further options.
func TestTaskThroughPlainClient(t *testing.T) {
	redis := miniredis.RunT(t)
	conn := asynq.RedisClientOpt{Addr: redis.Addr()}
	client := asynq.NewClient(conn)
	defer func() { _ = client.Close() }()
	later := time.Now().Add(time.Hour).Truncate(time.Second)
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

	task, err := NewSubscribeTask(testApp, subscribePayload(),
		ID("order-42"), WithPriority(Bulk), ProcessAt(later), NotAfter(later.Add(time.Hour)),
		InBatch("sale"), IgnoreHours(), TraceParent(parent))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Enqueue(task); err != nil {
		t.Fatal(err)
	}
	inspector := asynq.NewInspector(conn)
	defer func() { _ = inspector.Close() }()
	info, err := inspector.GetTaskInfo(testApp+":send:subscribe:bulk", testApp+":order-42")
	if err != nil {
		t.Fatal(err)
	}
	if info.MaxRetry != MaxRetry || info.Timeout != 24*time.Hour || info.Retention != 0 || info.Type != TypeSubscribe {
		t.Errorf("max retry %d, timeout %v, retention %v, type %s", info.MaxRetry, info.Timeout, info.Retention, info.Type)
	}
	if !info.NextProcessAt.Equal(later) {
		t.Errorf("process at %v, want %v", info.NextProcessAt, later)
	}
	if info.Headers[HeaderTraceParent] != parent {
		t.Errorf("headers %v", info.Headers)
	}
	if at, err := time.Parse(time.RFC3339Nano, info.Headers[HeaderEnqueuedAt]); err != nil || time.Since(at) > time.Minute {
		t.Errorf("enqueued at %v (%v)", at, err)
	}
	e, err := DecodePayload(info.Payload)
	if err != nil {
		t.Fatal(err)
	}
	if e.Batch != "sale" || !e.IgnoreHours || !e.NotAfter.Equal(later.Add(time.Hour)) || e.Priority != Bulk {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(string(info.Payload), "A & B <订单>") {
		t.Errorf("escaped: %s", info.Payload)
	}
}

func TestNewTaskStampsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		task, err := NewTask(Envelope{Type: TypeScheme, App: testApp, Body: json.RawMessage(`{}`)})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := task.Headers()[HeaderEnqueuedAt], time.Now().Format(time.RFC3339Nano); got != want {
			t.Errorf("enqueued at %s, want %s", got, want)
		}
	})
}

// TestEnqueuedAt: a task that is not marked has the time in a header. A marked task has no
// header.
func TestEnqueuedAt(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.FixedZone("", 8*3600))
	for marked, want := range map[bool]time.Time{false: now, true: {}} {
		d := draft{Envelope: Envelope{Type: TypeScheme, App: testApp, ID: "i", Body: json.RawMessage(`{}`)}, marked: marked}
		if h := d.buildPrepared(now).Headers(); !EnqueuedAt(h).Equal(want) || (len(h) == 0) != marked {
			t.Errorf("marked %v: %v of %v", marked, EnqueuedAt(h), h)
		}
	}
	if got := EnqueuedAt(nil); !got.IsZero() {
		t.Errorf("%v of no headers", got)
	}
}

func TestConstructorsRefuse(t *testing.T) {
	p := subscribePayload()
	_, err := NewSubscribeTask("wx1", p)
	wantFault(t, err, "app", "not an app id")
	_, err = NewSubscribeTask(testApp, p, ID("a b"))
	wantFault(t, err, "id", "' ' not allowed")
	p.ToUser = ""
	_, err = NewSubscribeTask(testApp, p)
	wantFault(t, err, "body.touser", "empty")
	_, err = NewTask(Envelope{Type: TypeScheme, App: testApp})
	wantFault(t, err, "body", "required")
	for _, parent := range []string{"x", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01"} {
		_, err = NewSubscribeTask(testApp, subscribePayload(), TraceParent(parent))
		wantFault(t, err, "traceparent", "not a W3C trace context")
	}
}

// TestConstructorsRefuseBrokenText: encoding/json would replace invalid UTF-8 by U+FFFD, which
// WeChat would show to the receiver.
func TestConstructorsRefuseBrokenText(t *testing.T) {
	p := subscribePayload()
	p.Data["thing1"] = Value{Value: "ab\xff"}
	_, err := NewSubscribeTask(testApp, p)
	wantFault(t, err, "body", "not UTF-8")
	for _, text := range []string{"a real \ufffd", `\ufffd`, `\\ufffd`} {
		p.Data["thing1"] = Value{Value: text}
		if _, err := NewSubscribeTask(testApp, p); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	p.Data["thing1"] = Value{Value: `\ufffd` + "\xff"}
	_, err = NewSubscribeTask(testApp, p)
	wantFault(t, err, "body", "not UTF-8")
}

func TestNewTextCheckTaskSetsTheVersion(t *testing.T) {
	task, err := NewTextCheckTask(testApp, TextCheckPayload{Content: "x", Scene: 1, OpenID: "o"}, ID("i"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(task.Payload()), `"version":2`) {
		t.Errorf("%s", task.Payload())
	}
}

// TestTraceParentOfAnEnvelope: Submit carries a sampled trace context as a header, and refuses a
// malformed one. The JSON of the envelope does not have it.
func TestTraceParentOfAnEnvelope(t *testing.T) {
	_, rdb := redistest.Mini(t)
	client := NewClient(rdb)
	const unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	sampled := strings.TrimSuffix(unsampled, "0") + "1"
	envelope := func(id, parent string) Envelope {
		return Envelope{Type: TypeScheme, App: testApp, ID: id, Body: json.RawMessage(`{}`), TraceParent: parent}
	}
	for id, tt := range map[string]struct{ parent, want string }{"none": {"", ""}, "unsampled": {unsampled, ""}, "sampled": {sampled, sampled}} {
		for _, result := range client.SubmitMany(t.Context(), []Envelope{envelope(id, tt.parent)}) {
			if result.Err != nil {
				t.Fatal(result.Err)
			}
		}
		info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(testApp+":"+TypeScheme, testApp+":"+id)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Headers[HeaderTraceParent]; got != tt.want || strings.Contains(string(info.Payload), "0af7") {
			t.Errorf("%s: header %q, payload %s", id, got, info.Payload)
		}
	}
	_, err := client.Submit(t.Context(), envelope("malformed", "00-x"))
	wantFault(t, err, "traceparent", "not a W3C trace context")
	if line, err := json.Marshal(envelope("x", sampled)); err != nil || strings.Contains(string(line), "0af7") {
		t.Errorf("%s %v", line, err)
	}
}
