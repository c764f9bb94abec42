package sandbox

import (
	"strings"
	"testing"
)

func TestValueRules(t *testing.T) {
	tests := []struct {
		key, good, bad string // alternatives, separated by |
	}{
		{"thing1", "一二三四五六七八九十一二三四五六七八九十|Order #42, ok!|🎉", "一二三四五六七八九十一二三四五六七八九十一|two\nlines"},
		{"number01", "1|1234.50|-3", "12a|1,000|" + strings.Repeat("1", 33)},
		{"letter2", "abcXYZ", "abc1|汉|a b"},
		{"symbol3", "!?。", "!!!!!!|a|汉"},
		{"character_string3", "SF1234567890|202103040830158485629163994677|a-b_c", "订单1|" + strings.Repeat("1", 33)},
		{"time4", "15:01|2019年10月1日 15:01|2025-01-01 12:00|9:00:30|09:00 ~ 10:00|2019年10月1日 15:01~2019年10月2日 15:01", "25:00|noon|12:60|2019年10月1日"},
		{"date5", "2019年10月1日|2019年10月|10月1日|2018-01-01|2018/01/01|2018.01.01|2018-01|01-01|2019年10月1日 15:01|2018-01-01 ~ 2018-01-03", "today|20180101|15:01"},
		{"amount6", "¥10.50|10元|$1234567890|￥9.9元|100", "¥|12345678901|10 yuan|ab10"},
		{"phone_number7", "+86-0766-66888866|13800138000", "+86-0766-668888660|call me|一三八"},
		{"car_number8", "粤A8Z888挂|A12345|京A12345", "粤A8Z888挂1|A-123|粤粤A123|A粤A12"},
		{"name9", "中通快递|Arthur Dent|一二三四五六七八九十|王 Wu", "一二三四五六七八九十一|John the Second of Nowhere|王1"},
		{"phrase10", "配送中|一二三四五", "一二三四五六|ok|配送 中"},
		{"const11", "anything", strings.Repeat("x", 21)},
		{"enum12", "one", strings.Repeat("x", 65)},
		{"keyword1", strings.Repeat("汉字 and 1", 30), ""},
		{"first", "x", ""},
	}
	rules := newValueRules()
	for _, tt := range tests {
		for _, value := range strings.Split(tt.good, "|") {
			if !rules.fits(tt.key, value) {
				t.Errorf("%s: %q was refused", tt.key, value)
			}
		}
		for _, value := range strings.Split(tt.bad, "|") {
			if value != "" && rules.fits(tt.key, value) {
				t.Errorf("%s: %q was accepted", tt.key, value)
			}
		}
	}
}

func TestValueTexts(t *testing.T) {
	for raw, want := range map[string]string{`"a\"b"`: `a"b`, `12.50`: "12.50", `true`: "true", `null`: "", ``: ""} {
		if got, ok := (dataValue{[]byte(raw)}).text(); !ok || got != want {
			t.Errorf("%s: %q %t, want %q", raw, got, ok, want)
		}
	}
	if _, ok := (dataValue{[]byte(`["a"]`)}).text(); ok {
		t.Error("text accepts a list")
	}
}

func TestEscaped(t *testing.T) {
	for body, want := range map[string]bool{`{"a":"\u0026"}`: true, `{"a":"\\u0026"}`: false, `{"a":"\\\u4e2d"}`: true, `{"a":"汉\n"}`: false, `\`: false, ``: false} {
		if got := escaped([]byte(body)); got != want {
			t.Errorf("%s: %t", body, got)
		}
	}
	s := New(Options{})
	post(t, s, pathCustom, `{"touser":"o1","msgtype":"text","text":{"content":"a \u0026 b"}}`)
	post(t, s, pathCustom, `{"touser":"o1","msgtype":"text","text":{"content":"a & b"}}`)
	if calls := s.Calls(Filter{Path: pathCustom}); !calls[0].Escaped || calls[1].Escaped || !calls[0].Delivered {
		t.Errorf("call log: %+v", calls)
	}
}
