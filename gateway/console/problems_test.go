package console

import (
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestFaultsOfFieldsInChinese: what is wrong with a message for its template is said in Chinese, for every
// kind of field.
func TestFaultsOfFieldsInChinese(t *testing.T) {
	texts := map[string][]string{
		"thing": {strings.Repeat("字", 21), "a\nb", "a\tb", " "}, "number": {strings.Repeat("9", 33), "12个", "--"},
		"letter": {"a1", "a-b", strings.Repeat("a", 33)}, "symbol": {"######", "#a"}, "character_string": {"订单"},
		"time": {"25:00", "1606737600", "明天"}, "date": {"2019-10-01T00:00:00Z"}, "amount": {"¥12345678901", "1.2.3", "100万元"},
		"phone_number": {"1380013800O"}, "car_number": {"粤A汉8888"}, "name": {"一二三四五六七八九十一"}, "phrase": {"配送 1", "好、", "好€"},
		"enum": {"晚上"},
	}
	v, err := parseViews(nil)
	if err != nil {
		t.Fatal(err)
	}
	english := regexp.MustCompile(`[A-Za-z]+ [a-z]+`)
	for _, labelled := range []string{"", "标签"} {
		for _, kind := range slices.Sorted(maps.Keys(texts)) {
			field := templates.Field{Name: kind + "1", Kind: kind, Label: labelled}
			if kind == "enum" {
				field.Values = []string{"上午", "下午"}
			}
			registry := &templates.Registry{Mode: templates.Mode{Check: templates.CheckReject}}
			registry.SetList(templates.Subscribe, []templates.Template{{ID: "T1", Fields: []templates.Field{field}}}, time.Now())
			data := []map[string]any{{"other9": map[string]string{"value": "x"}}}
			for _, text := range texts[kind] {
				data = append(data, map[string]any{kind + "1": map[string]string{"value": text}})
			}
			for _, d := range data {
				body, err := json.Marshal(map[string]any{"touser": "o1", "template_id": "T1", "data": d})
				if err != nil {
					t.Fatal(err)
				}
				e := tasks.Envelope{Type: tasks.TypeSubscribe, App: testApp, Body: body}
				_, err = e.PrepareFor(registry, time.Now())
				var invalid *tasks.ValidationError
				if !errors.As(err, &invalid) {
					t.Errorf("%s is taken", body)
					continue
				}
				for _, fault := range invalid.Fields {
					if got := v.problem(chinese, fault.Problem); english.MatchString(got) || got == fault.Problem {
						t.Errorf("%q is %q in Chinese", fault.Problem, got)
					}
				}
			}
		}
	}
}
