package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// valueRules says which values a template's fields take, by the type that a field's key starts with.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage.html
type valueRules struct {
	key   *regexp.Regexp // splits "thing1" into its type and number
	rules map[string]valueRule
}

// valueRule is one type: at most so many characters, and each or all of them such.
type valueRule struct {
	most  int             // characters
	each  func(rune) bool // nil: any character
	whole func(string) bool
}

func newValueRules() valueRules {
	const (
		clock = `([01]?\d|2[0-4]):[0-5]\d(:[0-5]\d)?`
		day   = `(\d{4}年\d{1,2}月\d{1,2}日|\d{4}年\d{1,2}月|\d{1,2}月\d{1,2}日|\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?|\d{1,2}[-/.]\d{1,2})`
		date  = day + `( *` + clock + `)?`
		time  = `(` + day + ` *)?` + clock
	)
	span := func(one string) func(string) bool {
		return regexp.MustCompile(`^` + one + `( *~ *` + one + `)?$`).MatchString
	}
	return valueRules{key: regexp.MustCompile(`^([a-z_]+?)\d+$`), rules: map[string]valueRule{
		"thing":            {most: 20},
		"number":           {most: 32, whole: regexp.MustCompile(`^[+-]?\d+(\.\d+)?$`).MatchString},
		"letter":           {most: 32, each: isLetter},
		"symbol":           {most: 5, each: isSymbol},
		"character_string": {most: 32, each: func(r rune) bool { return !isHan(r) }},
		"time":             {most: 64, whole: span(time)},
		"date":             {most: 64, whole: span(date)},
		"amount":           {most: 32, whole: regexp.MustCompile(`^[^\d\s.]?\d{1,10}(\.\d+)?元?$`).MatchString},
		"phone_number":     {most: 17, each: func(r rune) bool { return isDigit(r) || isSymbol(r) }},
		"car_number":       {most: 8, whole: regexp.MustCompile(`^[\p{Han}A-Za-z0-9][A-Za-z0-9]*[\p{Han}A-Za-z0-9]?$`).MatchString},
		"name":             {most: 20, each: func(r rune) bool { return !isDigit(r) }, whole: shortName},
		"phrase":           {most: 5, each: isHan},
		"const":            {most: 20},
		"enum":             {most: 64},
	}}
}

// shortName holds a name with Chinese characters to ten.
func shortName(name string) bool {
	return !strings.ContainsFunc(name, isHan) || utf8.RuneCountInString(name) <= 10
}

func isHan(r rune) bool    { return unicode.Is(unicode.Han, r) }
func isDigit(r rune) bool  { return r >= '0' && r <= '9' }
func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isSymbol(r rune) bool { return !isHan(r) && !isDigit(r) && !isLetter(r) }

// valueFaults is how an endpoint words what is wrong with a field; %s is its name. "emtpy" is WeChat's spelling.
type valueFaults struct{ empty, invalid string }

// checkData finds the first field, by name, whose value cannot stand.
func (v valueRules) checkData(data map[string]dataValue, faults valueFaults) *refusal {
	if len(data) == 0 {
		return &refusal{47003, "argument invalid! data is emtpy"}
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		text, ok := data[key].text()
		switch {
		case ok && strings.TrimSpace(text) == "":
			return &refusal{47003, fmt.Sprintf(faults.empty, key)}
		case !ok || !v.fits(key, text):
			return &refusal{47003, fmt.Sprintf(faults.invalid, key)}
		}
	}
	return nil
}

// fits tells whether a value obeys the rule of its field; a field whose type is not known takes anything.
func (v valueRules) fits(key, text string) bool {
	typed := v.key.FindStringSubmatch(key)
	if typed == nil {
		return true
	}
	rule, known := v.rules[typed[1]]
	if !known {
		return true
	}
	if utf8.RuneCountInString(text) > rule.most || strings.ContainsFunc(text, unicode.IsControl) {
		return false
	}
	if rule.each != nil && strings.ContainsFunc(text, func(r rune) bool { return !rule.each(r) }) {
		return false
	}
	return rule.whole == nil || rule.whole(text)
}

// text is a value as WeChat shows it: a string, or a number or a truth value written out.
func (d dataValue) text() (string, bool) {
	raw := string(d.Value)
	switch {
	case raw == "" || raw == "null":
		return "", true
	case raw[0] == '{' || raw[0] == '[':
		return "", false
	case raw[0] != '"':
		return raw, true
	}
	var s string
	err := json.Unmarshal(d.Value, &s)
	return s, err == nil
}
