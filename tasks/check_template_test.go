package tasks_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// shopTemplates are the templates of the app of these tests.
func shopTemplates(mode templates.Mode) *templates.Registry {
	r := &templates.Registry{Mode: mode}
	r.SetList(templates.Subscribe, []templates.Template{
		{ID: "S1", Kind: templates.OneTime, Fields: []templates.Field{
			{Name: "thing1", Kind: "thing", Label: "商品名称"},
			{Name: "time2", Kind: "time", Label: "发货时间"},
			{Name: "enum3", Kind: "enum", Label: "时段", Values: []string{"上午", "下午"}},
		}},
	}, time.Now())
	r.SetList(templates.Account, []templates.Template{
		{ID: "A1", Fields: []templates.Field{{Name: "thing1", Kind: "thing", Label: "商品"}, {Name: "keyword2", Kind: "keyword"}}},
	}, time.Now())
	return r
}

func storeRegistry(t *testing.T, rdb redis.UniversalClient, app string, r *templates.Registry) {
	t.Helper()
	text, err := json.Marshal(r)
	if err == nil {
		err = rdb.Set(context.Background(), templates.Key(app), text, 0).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func templated(typ, template, data string) tasks.Envelope {
	return tasks.Envelope{
		Type: typ, App: clientApp, Body: json.RawMessage(`{"touser":"oPerson","template_id":"` + template + `","data":` + data + `}`),
	}
}

const fitting = `{"thing1":{"value":"雨伞"},"time2":{"value":"15:01"},"enum3":{"value":"上午"}}`

// TestTemplateFaults has what does not fit a template, with its fault; "" fits.
func TestTemplateFaults(t *testing.T) {
	const label = "SECRETVALUE"
	tests := []struct {
		name, typ, template, data string
		faults                    []string
	}{
		{"fits", tasks.TypeSubscribe, "S1", fitting, nil},
		{"fits an official account", tasks.TypeBizSubscribe, "S1", fitting, nil},
		{"missing", tasks.TypeSubscribe, "S1", `{"thing1":{"value":"雨伞"},"enum3":{"value":"上午"}}`, []string{
			`body.data.time2: required by the template (发货时间): add it, as {"value":"…"}`,
		}},
		{"extra", tasks.TypeSubscribe, "S1", `{"thing1":{"value":"雨伞"},"time2":{"value":"15:01"},"enum3":{"value":"上午"},"letter9":{"value":"` + label + `"}}`, []string{
			"body.data.letter9: not in the template, which has thing1, time2, enum3: leave it out, or rename it",
		}},
		{"wrong kind", tasks.TypeSubscribe, "S1", `{"thing1":{"value":"雨伞"},"date2":{"value":"2026-01-01"},"enum3":{"value":"上午"}}`, []string{
			"body.data.time2: required by the template (发货时间)", "body.data.date2: not in the template: the template has time2 (发货时间)",
		}},
		{"enum", tasks.TypeSubscribe, "S1", `{"thing1":{"value":"雨伞"},"time2":{"value":"15:01"},"enum3":{"value":"` + label + `"}}`, []string{
			"body.data.enum3.value: none of the values that the template (时段) takes: 上午, 下午",
		}},
		{"template message", tasks.TypeTemplate, "A1", `{"thing1":{"value":"雨伞"},"keyword2":{"value":""}}`, nil},
		{"template message, too long", tasks.TypeTemplate, "A1", `{"thing1":{"value":"` + strings.Repeat("字", 21) + `"},"keyword2":{"value":"x"}}`, []string{
			"body.data.thing1.value: 21 characters; a thing keyword takes at most 20 characters",
		}},
		{"template message, no data", tasks.TypeTemplate, "A1", `[]`, []string{"body.data.thing1: required", "body.data.keyword2: required"}},
	}
	for _, check := range []templates.Check{templates.CheckReject, templates.CheckWarn, templates.CheckOff} {
		registry := shopTemplates(templates.Mode{Check: check})
		for _, tt := range tests {
			e := templated(tt.typ, tt.template, tt.data)
			warning, err := e.PrepareFor(registry, time.Now())
			text := warning
			if check == templates.CheckReject && len(tt.faults) > 0 {
				var invalid *tasks.ValidationError
				if !errors.As(err, &invalid) || len(invalid.Fields) != len(tt.faults) || warning != "" {
					t.Errorf("%s, %s: %v, warning %q", check, tt.name, err, warning)
					continue
				}
				text = err.Error()
			} else if err != nil || check == templates.CheckOff && warning != "" || len(tt.faults) == 0 && warning != "" {
				t.Errorf("%s, %s: %v, warning %q", check, tt.name, err, warning)
			}
			for _, want := range tt.faults {
				if check != templates.CheckOff && !strings.Contains(text, want) {
					t.Errorf("%s, %s: %q is not in %q", check, tt.name, want, text)
				}
			}
			if strings.Contains(text, label) {
				t.Errorf("%s contains a value: %s", tt.name, text)
			}
		}
	}
}

// An unknown template is a warning at most: the list may be old. The fields that WeChat took out of all
// templates in 2023 are one, too. Without the list that has the template nothing is compared.
func TestTemplateWarnings(t *testing.T) {
	registry := shopTemplates(templates.Mode{Check: templates.CheckReject})
	only := &templates.Registry{Mode: registry.Mode}
	only.SetList(templates.Account, registry.Of(templates.Account), time.Now())
	for _, tt := range []struct {
		name     string
		registry *templates.Registry
		envelope tasks.Envelope
		want     string
	}{
		{"unknown", registry, templated(tasks.TypeSubscribe, "S9", fitting), "body.template_id: not in the app's list of templates"},
		{"of the other list", registry, templated(tasks.TypeSubscribe, "A1", fitting), "body.template_id: not in the app's list of templates"},
		{"taken out", registry, templated(tasks.TypeTemplate, "A1", `{"thing1":{"value":"雨伞"},"keyword2":{"value":"x"},"remark":{"value":"x"}}`), "body.data.remark: not in the template, and not shown: leave it out"},
		{"no list", only, templated(tasks.TypeSubscribe, "S9", `{"thing8":{"value":"x"}}`), ""},
		{"no registry", nil, templated(tasks.TypeSubscribe, "S9", `{"thing8":{"value":"x"}}`), ""},
	} {
		warning, err := tt.envelope.PrepareFor(tt.registry, time.Now())
		if err != nil || !strings.HasPrefix(warning, tt.want) || tt.want == "" && warning != "" {
			t.Errorf("%s: %q, %v", tt.name, warning, err)
		}
	}
}

func TestFix(t *testing.T) {
	long := strings.Repeat("字", 27)
	tests := []struct{ name, typ, template, in, want, fixed string }{
		{"cut", tasks.TypeSubscribe, "S9", long, strings.Repeat("字", 19) + "…", "data.thing1.value: cut from 27 to 20 characters"},
		{"not too long", tasks.TypeSubscribe, "S9", strings.Repeat("字", 20), strings.Repeat("字", 20), ""},
		{"a space at the end", tasks.TypeSubscribe, "S9", strings.Repeat("字", 18) + " 字字字", strings.Repeat("字", 18) + "…", "data.thing1.value: cut from 22 to 19 characters"},
		{"an emoji of several runes", tasks.TypeSubscribe, "S9", strings.Repeat("字", 17) + "👩\u200d👩\u200d👧字", strings.Repeat("字", 17) + "…", "data.thing1.value: cut from 23 to 18 characters"},
		{"quotes stay quoted", tasks.TypeSubscribe, "S9", strings.Repeat(`"`, 30), strings.Repeat(`"`, 19) + "…", "data.thing1.value: cut from 30 to 20 characters"},
		{"template message", tasks.TypeTemplate, "A1", long, strings.Repeat("字", 19) + "…", "data.thing1.value: cut from 27 to 20 characters"},
		{"unknown template message", tasks.TypeTemplate, "A9", long, long, ""},
	}
	registry := shopTemplates(templates.Mode{Fix: true})
	for _, tt := range tests {
		value, err := json.Marshal(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		e := templated(tt.typ, tt.template, `{ "thing1":{"value":`+string(value)+`,"color":"#173177"},"number2":{"value":12} }`)
		for range 2 { // preparing again changes nothing
			if _, err := e.PrepareFor(registry, time.Now()); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			var body struct {
				Data map[string]struct {
					Value any
					Color string
				}
			}
			if err := json.Unmarshal(e.Body, &body); err != nil || body.Data["thing1"].Value != tt.want || body.Data["thing1"].Color != "#173177" || body.Data["number2"].Value != 12.0 {
				t.Errorf("%s: %s (%v)", tt.name, e.Body, err)
			}
			if strings.Join(e.Fixed, ";") != tt.fixed {
				t.Errorf("%s: %q", tt.name, e.Fixed)
			}
		}
	}
	if e := templated(tasks.TypeSubscribe, "S1", `{"thing1":{"value":"`+long+`"}}`); e.Prepare(time.Now()) == nil {
		t.Error("without a registry a thing that is too long is taken")
	}
}

// TestClientComparesWithTemplates: a client knows the mode and the templates from Redis. A body that was
// cut is known by its original, and its payload says what was cut.
func TestClientComparesWithTemplates(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		ctx, client := context.Background(), tasks.NewClient(rdb)
		storeRegistry(t, rdb, clientApp, shopTemplates(templates.Mode{Check: templates.CheckReject, Fix: true}))
		long := templated(tasks.TypeSubscribe, "S1", strings.Replace(fitting, "雨伞", strings.Repeat("伞", 30), 1))
		long.ID = "long"
		bad := templated(tasks.TypeSubscribe, "S1", `{"thing1":{"value":"雨伞"}}`)
		unknown := templated(tasks.TypeSubscribe, "S9", `{"thing1":{"value":"雨伞"}}`)
		results := client.SubmitMany(ctx, []tasks.Envelope{long, bad, unknown})
		var invalid *tasks.ValidationError
		if results[0].Err != nil || !errors.As(results[1].Err, &invalid) || results[2].Err != nil || !strings.Contains(results[2].Receipt.Warning, "list of templates") {
			t.Errorf("%+v", results)
		}
		if due, err := rdb.ZScore(ctx, templates.DueKey, clientApp).Result(); err != nil || due == 0 {
			t.Errorf("an unknown template asks for no fetch: %v, %v", due, err)
		}
		again, err := client.Submit(ctx, long)
		if err != nil || !again.Already || again.Differs {
			t.Errorf("the same original: %+v, %v", again, err)
		}
		info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(again.Queue, long.TaskID())
		if err != nil {
			t.Fatal(err)
		}
		e, err := tasks.DecodePayload(info.Payload)
		if err != nil || len(e.Fixed) != 1 || e.Fixed[0] != "data.thing1.value: cut from 30 to 20 characters" {
			t.Errorf("the payload is %s (%v)", info.Payload, err)
		}
		if _, err := tasks.ParseEnvelope(info.Payload); err == nil {
			t.Error("a producer may say that something was fixed")
		}
	})
}

// TestMisfitAsksForTemplates: a message that does not fit its template asks for a new list, since the
// template may have changed; otherwise tasks that fit the new one would be refused for hours.
func TestMisfitAsksForTemplates(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		storeRegistry(t, rdb, clientApp, shopTemplates(templates.Mode{Check: templates.CheckReject}))
		client := tasks.NewClient(rdb)
		if _, err := client.Submit(t.Context(), templated(tasks.TypeSubscribe, "S1", fitting)); err != nil {
			t.Fatal(err)
		}
		if n := rdb.ZCard(t.Context(), templates.DueKey).Val(); n != 0 {
			t.Error("a message that fits asks for a list")
		}
		if _, err := client.Submit(t.Context(), templated(tasks.TypeSubscribe, "S1", `{"thing1":{"value":"雨伞"}}`)); err == nil {
			t.Error("a message that does not fit is taken")
		}
		if _, err := rdb.ZScore(t.Context(), templates.DueKey, clientApp).Result(); err != nil {
			t.Errorf("no list is asked for: %v", err)
		}
	})
}

// TestClientsReadTemplatesOnceAMinute: with or without a registry, one command a minute and app.
func TestClientsReadTemplatesOnceAMinute(t *testing.T) {
	rdb := redistest.Start(t).Client(t)
	ctx := context.Background()
	client := tasks.NewClient(rdb)
	for range 20 {
		for _, r := range client.SubmitMany(ctx, []tasks.Envelope{templated(tasks.TypeSubscribe, "S1", fitting), templated(tasks.TypeSubscribe, "S1", fitting)}) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
	}
	stats, err := rdb.Info(ctx, "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stats, "cmdstat_get:calls=1,") {
		t.Errorf("not one GET: %s", stats)
	}
}

// BenchmarkPrepareFor is the cost of the comparison: without a registry, with one that is off, and with
// one that compares and may cut.
func BenchmarkPrepareFor(b *testing.B) {
	for name, registry := range map[string]*templates.Registry{
		"none": nil, "off": shopTemplates(templates.Mode{}), "reject": shopTemplates(templates.Mode{Check: templates.CheckReject}),
		"reject, fix": shopTemplates(templates.Mode{Check: templates.CheckReject, Fix: true}),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			now := time.Now()
			for range b.N {
				e := templated(tasks.TypeSubscribe, "S1", fitting)
				if _, err := e.PrepareFor(registry, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
