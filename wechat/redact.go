package wechat

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// hidden is what one request carried that no text about it may show. It costs
// nothing until there is such a text.
type hidden struct {
	secrets []Secret
	body    []byte // JSON; its values are hidden, see addBody
}

func (h hidden) text(s string) string {
	if s == "" || s == "ok" { // nearly every answer
		return s
	}
	return newMasker(h.body, h.secrets...).text(s)
}

func (h hidden) err(err error) error { return newMasker(h.body, h.secrets...).err(err) }

// masker hides in a text what must not leave this package. The patterns catch what
// looks like a secret or a person; the literals catch the rest: what this very
// request carried. IP addresses stay: in "invalid ip 1.2.3.4, not in whitelist" the
// address is the caller's own, and what the operator has to act on.
type masker struct {
	literals []string // longest first
}

// newMasker knows the given secrets, as they are and as they look in a query, and
// every value of the JSON body that may be a person's.
func newMasker(body []byte, secrets ...Secret) masker {
	var m masker
	for _, s := range secrets {
		m.add(s.Reveal(), 4)
		m.add(url.QueryEscape(s.Reveal()), 4)
	}
	m.addBody(body)
	slices.SortFunc(m.literals, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	return m
}

func (m *masker) add(literal string, minBytes int) {
	if len(literal) >= minBytes {
		m.literals = append(m.literals, literal)
	}
}

// Fields of the request bodies whose values are the service's own: they help to
// understand an errmsg, and belong to nobody.
var openFields = map[string]bool{
	"template_id": true, "page": true, "pagepath": true, "path": true, "appid": true,
	"msgtype": true, "lang": true, "miniprogram_state": true, "env_version": true,
	"cgi_path": true,
}

// Values shorter than this are hidden only in the fields that name a person: a word
// such as "data" would take half of WeChat's own sentence with it.
const minHiddenValue = 6

func (m *masker) addBody(body []byte) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var value any
	if dec.Decode(&value) == nil {
		m.addValue("", value)
	}
}

func (m *masker) addValue(field string, value any) {
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
		case !openFields[field]:
			m.add(v, minHiddenValue)
		}
	}
}

var (
	secretParam = regexp.MustCompile(`(?i)\b((?:component_|authorizer_)?access_token|app_?secret|secret)=[^&\s"']+`)
	userInfo    = regexp.MustCompile(`://[^/@\s"']*@`)
	longRun     = regexp.MustCompile(`[A-Za-z0-9_-]{24,}`)
	appSecret   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	openID      = regexp.MustCompile(`^o[A-Za-z0-9_-]{25,31}$`)
)

// text is s without any secret, openid or value of the request.
func (m masker) text(s string) string {
	for _, literal := range m.literals {
		s = strings.ReplaceAll(s, literal, redacted)
	}
	s = secretParam.ReplaceAllString(s, "$1="+redacted)
	s = userInfo.ReplaceAllString(s, "://"+redacted+"@")
	return longRun.ReplaceAllStringFunc(s, func(run string) string {
		// Tokens have more than 64 characters, template ids 43, a rid 26.
		if len(run) > 64 || openID.MatchString(run) || appSecret.MatchString(run) {
			return redacted
		}
		return run
	})
}

// err is an error that says the same without the URL (net/http puts it, with the
// token in its query, before every error) and without anything else to hide.
func (m masker) err(err error) error {
	for {
		var u *url.Error
		if !errors.As(err, &u) {
			break
		}
		err = u.Err
	}
	if clean := m.text(err.Error()); clean != err.Error() {
		return &maskedError{text: clean, err: err}
	}
	return err
}

// maskedError keeps an error's identity but not its text. It does not unwrap: that
// would give the text away.
type maskedError struct {
	text string
	err  error
}

func (e *maskedError) Error() string        { return e.text }
func (e *maskedError) Is(target error) bool { return errors.Is(e.err, target) }
