package tasks_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestEveryKindOfField has, for each kind of field of WeChat's page, the longest or strangest value that
// is taken, and one that is refused with its fault. Both hold for a subscribe message, whose fields are
// known by their names, and for a template message, whose fields are known by the template.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
func TestEveryKindOfField(t *testing.T) {
	tests := []struct{ kind, good, bad, fault string }{
		{"thing", strings.Repeat("字", 19) + "👍", strings.Repeat("字", 21), "21 characters; a thing keyword takes at most 20 characters"},
		{"number", strings.Repeat("9", 32), strings.Repeat("9", 33), "33 digits"},
		{"letter", strings.Repeat("a", 32), "ab1", "a digit at character 3"},
		{"symbol", "+-*/!", "++++++", "6 characters"},
		{"character_string", strings.Repeat("x", 31) + "-", "订单1", "a Chinese character at character 1"},
		{"time", "2019年10月1日 15:01", "25:00", "not a time of day"},
		{"date", "2018-01-01 15:01~16:00", "2019-10-01T00:00:00Z", "a letter at character 11"},
		{"amount", "¥9999999999.99元", "¥12345678901", "11 digits before the point"},
		{"phone_number", "+86-0766-66888866", "+86-0766-668888661", "18 characters"},
		{"car_number", "粤A8Z888挂", "粤A汉8888", "a Chinese character at character 3"},
		{"name", "一二三四五六七八九十", "一二三四五六七八九十一", "11 characters; a name keyword takes"},
		{"phrase", "一二三四五", "VIP", "a letter at character 1"},
		{"enum", "上午", "晚上", "none of the values that the template (标签) takes: 上午, 下午"},
		{"enum_string", "下午", "", "none of the values that the template (标签) takes: 上午, 下午"},
	}
	for _, tt := range tests {
		name := tt.kind + "01"
		field := templates.Field{Name: name, Kind: templates.FieldKind(name), Label: "标签"}
		if strings.HasPrefix(tt.kind, "enum") {
			field.Values = []string{"上午", "下午"}
		}
		registry := &templates.Registry{Mode: templates.Mode{Check: templates.CheckReject}}
		registry.SetList(templates.Subscribe, []templates.Template{{ID: "S1", Fields: []templates.Field{field}}}, time.Now())
		registry.SetList(templates.Account, []templates.Template{{ID: "A1", Fields: []templates.Field{field}}}, time.Now())
		for typ, template := range map[string]string{tasks.TypeSubscribe: "S1", tasks.TypeBizSubscribe: "S1", tasks.TypeTemplate: "A1"} {
			for _, value := range []string{tt.good, tt.bad} {
				text, err := json.Marshal(value)
				if err != nil {
					t.Fatal(err)
				}
				e := templated(typ, template, `{"`+name+`":{"value":`+string(text)+`}}`)
				warning, err := e.PrepareFor(registry, time.Now())
				var invalid *tasks.ValidationError
				switch {
				case warning != "":
					t.Errorf("%s, %s: warning %q", typ, tt.kind, warning)
				case value == tt.good && err != nil:
					t.Errorf("%s, %s: %q is refused: %v", typ, tt.kind, value, err)
				case value == tt.bad && value == "" && typ != tasks.TypeTemplate:
					if err == nil || !strings.Contains(err.Error(), "body.data."+name+".value: empty") {
						t.Errorf("%s, %s: an empty value: %v", typ, tt.kind, err)
					}
				case value == tt.bad && (!errors.As(err, &invalid) || len(invalid.Fields) != 1 ||
					invalid.Fields[0].Path != "body.data."+name+".value" || !strings.HasPrefix(invalid.Fields[0].Problem, tt.fault)):
					t.Errorf("%s, %s: %q: %v, want %q", typ, tt.kind, value, err, tt.fault)
				}
			}
		}
	}
}
