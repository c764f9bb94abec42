package dispatch

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// BenchmarkJudge measures judge, which runs once for each delivery.
func BenchmarkJudge(b *testing.B) {
	endpoint := wechat.EndpointSubscribe
	for _, bb := range []struct {
		name string
		err  error
	}{
		{"accepted", nil},
		{"refused", &wechat.APIError{Endpoint: endpoint, Code: 43101}},
		{"busy", &wechat.APIError{Endpoint: endpoint, Code: -1}},
		{"unlisted", &wechat.APIError{Endpoint: endpoint, Code: 99999}},
		{"no answer", fmt.Errorf("call: %w", io.ErrUnexpectedEOF)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			a := Attempt{Err: bb.err, Repeat: tasks.Never, Budget: 8, now: time.Now()}
			b.ReportAllocs()
			for b.Loop() {
				if v := judge(a); v.Outcome == "" && v.Delay == 0 {
					b.Fatalf("%+v", v)
				}
			}
		})
	}
}
