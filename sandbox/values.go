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

// valueRules holds the values that a template's fields accept, by the type that a field's key starts with.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_sendmessage.html
type valueRules struct {
	key   *regexp.Regexp // splits "thing1" into its type and number
	rules map[string]valueRule
}

// valueRule is the rule of one type: the maximum length, and conditions on each character or on the whole value.
type valueRule struct {
	maxChars int
	each     func(rune) bool   // nil: any character
	whole    func(string) bool // nil: any value
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
		"thing":            {maxChars: 20},
		"number":           {maxChars: 32, whole: regexp.MustCompile(`^[+-]?\d+(\.\d+)?$`).MatchString},
		"letter":           {maxChars: 32, each: isLetter},
		"symbol":           {maxChars: 5, each: isSymbol},
		"character_string": {maxChars: 32, each: func(r rune) bool { return !isHan(r) }},
		"time":             {maxChars: 64, whole: span(time)},
		"date":             {maxChars: 64, whole: span(date)},
		"amount":           {maxChars: 32, whole: regexp.MustCompile(`^[^\d\s.]?\d{1,10}(\.\d+)?元?$`).MatchString},
		"phone_number":     {maxChars: 17, each: func(r rune) bool { return isDigit(r) || isSymbol(r) }},
		"car_number":       {maxChars: 8, whole: regexp.MustCompile(`^[\p{Han}A-Za-z0-9][A-Za-z0-9]*[\p{Han}A-Za-z0-9]?$`).MatchString},
		"name":             {maxChars: 20, each: func(r rune) bool { return !isDigit(r) }, whole: shortName},
		"phrase":           {maxChars: 5, each: isHan},
		"const":            {maxChars: 20},
		"enum":             {maxChars: 64},
		"enum_string":      {maxChars: 64},
	}}
}

// shortName reports whether a name with Chinese characters has at most ten characters.
func shortName(name string) bool {
	return !strings.ContainsFunc(name, isHan) || utf8.RuneCountInString(name) <= 10
}

func isHan(r rune) bool    { return unicode.Is(unicode.Han, r) }
func isDigit(r rune) bool  { return r >= '0' && r <= '9' }
func isLetter(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' }
func isSymbol(r rune) bool { return !isHan(r) && !isDigit(r) && !isLetter(r) }

// valueFaults holds an endpoint's errmsg for an empty and an invalid field; %s is the field's name. "emtpy" is WeChat's
// spelling.
type valueFaults struct{ empty, invalid string }

// checkData returns a refusal for the first field, by name, with an invalid value.
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

// fits reports whether a value satisfies the rule of its field; a field of an unknown type accepts anything.
func (v valueRules) fits(key, text string) bool {
	typed := v.key.FindStringSubmatch(key)
	if typed == nil {
		return true
	}
	rule, known := v.rules[typed[1]]
	if !known {
		return true
	}
	if utf8.RuneCountInString(text) > rule.maxChars || strings.ContainsFunc(text, unicode.IsControl) {
		return false
	}
	if rule.each != nil && strings.ContainsFunc(text, func(r rune) bool { return !rule.each(r) }) {
		return false
	}
	return rule.whole == nil || rule.whole(text)
}

// text returns a value as WeChat shows it: a string, or the text of a number or boolean.
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
