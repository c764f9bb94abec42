package tasks_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// BenchmarkBulkTemplates compares SubmitMany without a registry of templates with one of 50 templates
// whose mode does nothing, compares, and compares and may cut. Each iteration uses all ways in turn, in
// an order that rotates, on one redis-server. The ratios are relative to no registry.
//
//	go test -run - -bench BulkTemplates -benchtime 8x ./tasks
func BenchmarkBulkTemplates(b *testing.B) {
	const n = 20_000
	rdb := redistest.Start(b).Client(b)
	envelopes, _ := payloads350(b, n)
	ways := []struct {
		name     string
		registry *templates.Registry
	}{
		{"none", nil},
		{"off", manyTemplates(templates.Mode{})},
		{"reject", manyTemplates(templates.Mode{Check: templates.CheckReject})},
		{"reject-fix", manyTemplates(templates.Mode{Check: templates.CheckReject, Fix: true})},
	}
	took, ours := make([]time.Duration, len(ways)), make([]time.Duration, len(ways))
	for round := 0; b.Loop(); round++ {
		for at := range ways {
			i := (at + round) % len(ways)
			flush(b, rdb)
			if ways[i].registry != nil {
				text, err := json.Marshal(ways[i].registry)
				if err == nil {
					err = rdb.Set(b.Context(), templates.Key(clientApp), text, 0).Err()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			client := tasks.NewClient(rdb)
			began, us := time.Now(), ownCPU(b)
			if err := firstError(client.SubmitMany(b.Context(), envelopes)); err != nil {
				b.Fatal(ways[i].name, err)
			}
			took[i] += time.Since(began)
			ours[i] += ownCPU(b) - us
			client.Close()
		}
	}
	for i, way := range ways {
		b.ReportMetric(float64(n*b.N)/took[i].Seconds(), way.name+"/s")
		b.ReportMetric(float64(took[i])/float64(took[0]), way.name+"-ratio")
		b.ReportMetric(float64(ours[i].Microseconds())/float64(n*b.N), way.name+"-client-µs")
	}
}

// manyTemplates is a registry whose last template is that of payloads350.
func manyTemplates(mode templates.Mode) *templates.Registry {
	fields := []templates.Field{{Name: "thing1", Kind: "thing", Label: "商品名称"}, {Name: "time2", Kind: "time", Label: "发货时间"}}
	list := make([]templates.Template, 0, 50)
	for i := range 49 {
		list = append(list, templates.Template{ID: fmt.Sprintf("T%d", i), Kind: templates.OneTime, Fields: fields})
	}
	r := &templates.Registry{Mode: mode}
	r.SetList(templates.Subscribe, append(list, templates.Template{ID: strings.Repeat("T", 43), Kind: templates.OneTime, Fields: fields}), time.Now())
	return r
}
