package keyword

import (
	"strings"
	"testing"
)

// TestRules has valid texts for each type of keyword, and invalid ones with their
// faults.
func TestRules(t *testing.T) {
	tests := []struct {
		name  string
		good  []string
		fault map[string]string
	}{
		{"thing1", []string{"订单已发货", "一二三四五六七八九十一二三四五六七八九十", "a, b! 3 ✓ 👍", strings.Repeat("👍", 20)}, map[string]string{
			strings.Repeat("字", 21): "21 characters; a thing keyword takes at most 20 characters",
			"two\nlines":            "a line break at character 4",
			"tab\there":             "a control character at character 4",
		}},
		{"number01", []string{"339208499", "3.14", "-5", "1,000", strings.Repeat("9", 32)}, map[string]string{
			strings.Repeat("9", 33): "33 digits",
			"12个":                   "a Chinese character at character 3",
			"12kg":                  "a letter at character 3",
			"--":                    "no digit",
		}},
		{"letter2", []string{"abcXYZ", strings.Repeat("a", 32)}, map[string]string{
			strings.Repeat("a", 33): "33 characters",
			"ab1":                   "a digit at character 3",
			"字母":                    "a Chinese character at character 1",
			"a-b":                   `"-" at character 2`,
		}},
		{"symbol3", []string{"*#", "+-×÷!"}, map[string]string{
			"######": "6 characters",
			"#a":     "a letter at character 2",
			"#汉":     "a Chinese character at character 2",
			"#1":     "a digit at character 2",
		}},
		{"character_string4", []string{"202103040830158485629163994677", "SF1234567890", "A-1/2 #"}, map[string]string{
			strings.Repeat("x", 33): "33 characters; a character_string keyword takes",
			"订单A1":                  "a Chinese character at character 1",
		}},
		{"time5", []string{"15:01", "15:01:59", "2019年10月1日 15:01", "2025-01-01 12:00", "2019年10月1日", "09:00~24:00", "2019-10-01 8:05"}, map[string]string{
			"2019-10-01T15:01:00Z": "a letter at character 11",
			"3:01 pm":              "a letter at character 6",
			"25:00":                "not a time of day",
			"12:60":                "not a time of day",
			"12:30:75":             "not a time of day",
			"1606737600":           "10 digits and nothing else",
			"明天":                   "no digit",
		}},
		{"date6", []string{"2019年10月1日", "2018-01-01", "2018/01/01", "2018.01.01", "2018-01", "01-01", "2019-12-25 09:42", "2019年10月1日~2019年10月7日", "2018-01-01 15:01~16:00"}, map[string]string{
			"1606737600000":        "13 digits and nothing else",
			"Oct 1, 2019":          "a letter at character 1",
			"2019-10-01 24:00:99":  "not a time of day",
			"下周":                   "no digit",
			"2019-10-01T00:00:00Z": "a letter at character 11",
		}},
		{"amount7", []string{"￥100", "¥9999999999.99", "100元", "$1,000.00", "￥100.5元", "-5", "0.01"}, map[string]string{
			"¥12345678901": "11 digits before the point",
			"免费":           "no digit",
			"100万元":        "a Chinese character at character 4",
			"1.2.3":        "two decimal points",
		}},
		{"phone_number8", []string{"+86-0766-66888866", "13800138000"}, map[string]string{
			"+86-0766-668888661": "18 characters",
			"电话110":              "a Chinese character at character 1",
			"1380013800O":        "a letter at character 11",
		}},
		{"car_number9", []string{"粤A8Z888挂", "沪A12345", "WJ12345", "粤"}, map[string]string{
			"粤A8Z8888挂": "9 characters",
			"粤A汉8888":   "a Chinese character at character 3",
		}},
		{"name10", []string{"中通快递", "一二三四五六七八九十", strings.Repeat("a", 20), "O'Neill"}, map[string]string{
			"一二三四五六七八九十一":           "11 characters; a name keyword takes",
			"王小明 (Wang Xi)":         "13 characters",
			strings.Repeat("a", 21): "21 characters",
		}},
		{"phrase11", []string{"配送中", "审核通过", "一二三四五"}, map[string]string{
			"一二三四五六": "6 characters; a phrase keyword takes at most 5 Chinese characters",
			"配送 1":   "a space at character 3",
			"VIP":    "a letter at character 1",
			"好!":     `"!" at character 2`,
		}},
		// types whose values the template declares, and unknown types
		{"enum1", []string{"anything", strings.Repeat("字", 99)}, nil},
		{"const12", []string{"anything\nat all"}, nil},
		{"site01", []string{strings.Repeat("字", 99)}, nil},
		{"thing", []string{strings.Repeat("字", 99)}, nil},
		{"111", []string{strings.Repeat("字", 99)}, nil},
	}
	for _, tt := range tests {
		for _, text := range tt.good {
			if problem := Problem([]byte(tt.name), []byte(text)); problem != "" {
				t.Errorf("%s refuses %q: %s", tt.name, text, problem)
			}
		}
		for text, says := range tt.fault {
			problem := Problem([]byte(tt.name), []byte(text))
			if !strings.Contains(problem, says) {
				t.Errorf("%s, %q: %q does not say %q", tt.name, text, problem, says)
			}
			if strings.Contains(problem, text) {
				t.Errorf("the problem contains the text: %s", problem)
			}
		}
	}
}

// TestEveryRuleIsTested fails when a rule is added without a case in TestRules.
func TestEveryRuleIsTested(t *testing.T) {
	const tested = "thing number letter symbol character_string time date amount phone_number car_number name phrase"
	var names []string
	for _, rule := range rules {
		names = append(names, rule.typ)
	}
	if got := strings.Join(names, " "); got != tested {
		t.Errorf("rules %s, tested are %s", got, tested)
	}
}
