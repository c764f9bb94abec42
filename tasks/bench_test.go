package tasks

import (
	"encoding/json"
	"strings"
	"testing"
)

// BenchmarkEnqueuePath measures an enqueue without Redis.
func BenchmarkEnqueuePath(b *testing.B) {
	large := `{"type":"send:custom","app":"` + testApp + `","body":{"touser":"o","msgtype":"text","text":{"content":"` +
		strings.Repeat(`订单\u8ba2\n`, 2000) + `"}}}`
	for _, bb := range []struct{ name, line string }{
		{"subscribe", goodLine},
		{"scheme", `{"type":"scheme:generate","app":"` + testApp + `","id":"x","body":{"jump_wxa":{"path":"pages/index/index","query":"id=123"},"expire_type":1,"expire_interval":30}}`},
		{"large", large},
	} {
		b.Run(bb.name, func(b *testing.B) {
			line := []byte(bb.line)
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				e, err := ParseEnvelope(line)
				if err != nil {
					b.Fatal(err)
				}
				if err := e.Prepare(testNow); err != nil {
					b.Fatal(err)
				}
				if _, err := e.Encode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	line := []byte(goodLine)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEnvelope(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e, err := ParseEnvelope([]byte(goodLine))
	if err == nil {
		err = e.Prepare(testNow)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodeResult measures the encoding of a record, and json.Marshal for comparison.
func BenchmarkEncodeResult(b *testing.B) {
	r := Result{
		ID: "order-42-shipped", App: testApp, Type: TypeSubscribe, State: StateDone, Outcome: OutcomeAccepted,
		ErrMsg: "ok", Attempts: 1, MsgID: "3395159288267931652", EnqueuedAt: testNow, FinishedAt: testNow,
	}
	b.Run("ours", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.Encode()
		}
	})
	b.Run("json.Marshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkPrepare(b *testing.B) {
	e, err := ParseEnvelope([]byte(goodLine))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		fresh := e
		if err := fresh.Prepare(testNow); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodePayload(b *testing.B) {
	line := []byte(goodLine)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodePayload(line); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewTask(b *testing.B) {
	e := Envelope{Type: TypeSubscribe, App: testApp, ID: "x", Body: json.RawMessage(catalog[0].Example)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewTask(e); err != nil {
			b.Fatal(err)
		}
	}
}
