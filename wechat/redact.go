package wechat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// sensitiveValues holds the values of one request that must not appear in texts about it. The
// redactor is built only when there is a text to redact.
type sensitiveValues struct {
	secrets []Secret
	body    []byte // JSON; its values are redacted, see addBody
}

func (sensitive sensitiveValues) redact(s string) string {
	if s == "" || s == "ok" { // the common case
		return s
	}
	return newRedactor(sensitive.body, sensitive.secrets...).redact(s)
}

func (sensitive sensitiveValues) redactErr(err error) error {
	return newRedactor(sensitive.body, sensitive.secrets...).redactErr(err)
}

// redactor removes secrets and personal data from a text. Patterns match what looks like a
// secret or an openid; literals and words match the values of the request. IP addresses
// stay: in "invalid ip 1.2.3.4, not in whitelist" the address is the caller's own, and the
// operator needs it.
type redactor struct {
	literals []string // redacted wherever they occur; longest first
	words    []string // redacted only as whole words, because they are short; longest first
}

// newRedactor returns a redactor for the given secrets, plain and URL-escaped, and for every
// value of the JSON body that may be personal.
func newRedactor(body []byte, secrets ...Secret) redactor {
	var m redactor
	for _, s := range secrets {
		m.add(s.Reveal(), 4)
		m.add(url.QueryEscape(s.Reveal()), 4)
	}
	m.addBody(body)
	for _, list := range [][]string{m.literals, m.words} {
		slices.SortFunc(list, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	}
	return m
}

func (m *redactor) add(literal string, minBytes int) {
	if len(literal) >= minBytes {
		m.literals = append(m.literals, literal)
	}
}

// publicFields are fields of request bodies whose values are not personal and help to
// understand an errmsg; they are not redacted.
var publicFields = map[string]bool{
	"template_id": true, "page": true, "pagepath": true, "path": true, "appid": true,
	"msgtype": true, "lang": true, "miniprogram_state": true, "env_version": true,
	"cgi_path": true, "version": true, "media_type": true, "width": true,
	"expire_type": true, "expire_time": true, "expire_interval": true,
}

// minLiteralBytes: shorter values are redacted only as whole words, delimited by characters
// that are neither letters nor digits; else "ata" would match within "data". Values outside
// ASCII are redacted everywhere, since Chinese has no word boundaries.
const minLiteralBytes = 6

// minWordBytes: a value of one byte is not personal and occurs by chance.
const minWordBytes = 2

// wechatWords are short words of WeChat's own messages. A value equal to one of them is not
// redacted: the operator needs the sentence, and the word is not personal.
var wechatWords = wordSet(`a access all an api app appid are args array at be been body but by call can check code
	color count data date day desc does empty emtpy errno error event exist failed field file for format from get has have
	hint hour id in index info input int is it item json key lang less level limit link list long make max media min minute
	miss mode more msg must name need no not null number of ok on once one only open openid or out over page param parse path
	per phone post query reach refuse req retry rid risky same scene second send sent set short size some state string style
	such system tag task text than that the thing this time title to token too type up uri url use used user valid value was
	when with word wrong you your zero`)

func wordSet(text string) map[string]bool {
	set := make(map[string]bool)
	for word := range strings.FieldsSeq(text) {
		set[word] = true
	}
	return set
}

func (m *redactor) addBody(body []byte) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) == nil {
		m.addValue("", value)
	}
}

func (m *redactor) addValue(field string, value any) {
	switch v := value.(type) {
	case map[string]any:
		for k, inner := range v {
			m.addValue(k, inner)
		}
	case []any:
		for _, inner := range v {
			m.addValue(field, inner)
		}
	case string:
		switch {
		case field == "touser" || field == "openid":
			m.add(v, 3)
		case !publicFields[field]:
			m.addText(v)
		}
	case json.Number:
		if !publicFields[field] {
			m.addText(v.String())
			if f, err := v.Float64(); err == nil { // as other languages format it
				m.addText(strconv.FormatFloat(f, 'f', -1, 64))
				m.addText(strconv.FormatFloat(f, 'g', -1, 64))
			}
		}
	}
}

// addText adds a value, plain and as escaped in JSON.
func (m *redactor) addText(v string) {
	m.addLiteral(strings.TrimSpace(v))
	if escaped, err := json.Marshal(v); err == nil {
		if inner := string(escaped[1 : len(escaped)-1]); inner != v {
			m.addLiteral(inner)
		}
	}
}

func (m *redactor) addLiteral(v string) {
	switch {
	case len(v) >= minLiteralBytes || strings.ContainsFunc(v, func(r rune) bool { return r >= utf8.RuneSelf }):
		m.add(v, 1)
	case len(v) >= minWordBytes && !wechatWords[strings.ToLower(v)]:
		m.words = append(m.words, v)
	}
}

var (
	secretParam = regexp.MustCompile(`(?i)\b((?:component_|authorizer_)?access_token|app_?secret|secret)=[^&\s"']+`)
	userInfo    = regexp.MustCompile(`://[^/@\s"']*@`)
	longRun     = regexp.MustCompile(`[A-Za-z0-9_-]{24,}`)
	appSecret   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	openID      = regexp.MustCompile(`^o[A-Za-z0-9_-]{25,31}$`)
)

// redact returns s with every secret, openid and value of the request replaced.
func (m redactor) redact(s string) string {
	for _, literal := range m.literals {
		s = strings.ReplaceAll(s, literal, redacted)
	}
	for _, word := range m.words {
		s = redactWord(s, word)
	}
	s = secretParam.ReplaceAllString(s, "$1="+redacted)
	s = userInfo.ReplaceAllString(s, "://"+redacted+"@")
	return longRun.ReplaceAllStringFunc(s, func(run string) string {
		// Tokens have more than 64 characters, template ids 43, rids 26.
		if len(run) > 64 || openID.MatchString(run) || appSecret.MatchString(run) {
			return redacted
		}
		return run
	})
}

// redactWord replaces word where no letter or digit is next to it.
func redactWord(s, word string) string {
	var b strings.Builder
	for {
		at := strings.Index(s, word)
		if at < 0 {
			b.WriteString(s)
			return b.String()
		}
		end := at + len(word)
		alone := (at == 0 || !alphanumeric(s[at-1]) || !alphanumeric(word[0])) &&
			(end == len(s) || !alphanumeric(s[end]) || !alphanumeric(word[len(word)-1]))
		b.WriteString(s[:at])
		if alone {
			b.WriteString(redacted)
		} else {
			b.WriteString(word)
		}
		s = s[end:]
	}
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// redactErr returns err without the URL (net/http prepends it, with the token in its query)
// and without other sensitive values.
func (m redactor) redactErr(err error) error {
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err
	}
	if clean := m.redact(err.Error()); clean != err.Error() {
		return &redactedError{text: clean, err: err}
	}
	return err
}

// redactedError keeps the identity of an error for errors.Is, with a redacted text. It has no
// Unwrap, which would expose the original text.
type redactedError struct {
	text string
	err  error
}

func (e *redactedError) Error() string        { return e.text }
func (e *redactedError) Is(target error) bool { return errors.Is(e.err, target) }
