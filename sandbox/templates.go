package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

// The types of a mini program's templates.
const (
	OneTime  = 2
	LongTerm = 3
)

// Template is a template of an app: of a mini program's subscribe messages, of an official account's template messages, or both.
type Template struct {
	ID      string `json:"id"`
	Title   string `json:"title"`
	Content string `json:"content"` // "商品名称:{{thing2.DATA}}\n…"
	Example string `json:"example,omitempty"`
	// Type is OneTime (0 too) or LongTerm. Official accounts' templates have none.
	Type int `json:"type,omitempty"`
	// Enums are the values that a field accepts, by its key ("enum2").
	Enums map[string][]string `json:"enums,omitempty"`
	// Primary and Deputy are the industries of an official account's template.
	Primary string `json:"primary_industry,omitempty"`
	Deputy  string `json:"deputy_industry,omitempty"`
}

// newFieldPattern returns the pattern of a field in a template's content, which captures its key.
func newFieldPattern() *regexp.Regexp {
	return regexp.MustCompile(`\{\{\s*([A-Za-z0-9_]+)\.DATA\s*\}\}`)
}

// keysOf returns the keys of a template's fields, in order.
func (env *checkEnv) keysOf(t Template) []string {
	var keys []string
	for _, match := range env.field.FindAllStringSubmatch(t.Content, -1) {
		keys = append(keys, match[1])
	}
	return keys
}

func (env *checkEnv) checkOne(t Template) error {
	keys := env.keysOf(t)
	switch {
	case t.ID == "":
		return errors.New("id is missing")
	case len(keys) == 0:
		return errors.New(`content has no field such as "{{thing1.DATA}}"`)
	case t.Type != 0 && t.Type != OneTime && t.Type != LongTerm:
		return fmt.Errorf("type is %d, not %d (one-time) or %d (long-term)", t.Type, OneTime, LongTerm)
	}
	for _, key := range slices.Sorted(maps.Keys(t.Enums)) {
		if !slices.Contains(keys, key) {
			return fmt.Errorf("enums has %q, which is no field of content", key)
		}
	}
	return nil
}

func (env *checkEnv) checkTemplates(list []Template) error {
	seen := map[string]bool{}
	for i, t := range list {
		err := env.checkOne(t)
		if err == nil && seen[t.ID] {
			err = fmt.Errorf("id %q is there twice", t.ID)
		}
		if err != nil {
			return fmt.Errorf("sandbox: templates[%d]: %w", i, err)
		}
		seen[t.ID] = true
	}
	return nil
}

// SetTemplates sets the whole list of an app's templates. From then on its messages must use one of them, else they are refused
// with 40037, and fill all its fields with values that it accepts, else with 47003. Before, the list has made-up templates, and
// messages may use any.
func (s *Server) SetTemplates(app string, list []Template) error {
	if err := s.env.checkTemplates(list); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.findApp(app); !known {
		return fmt.Errorf("sandbox: unknown app %q", app)
	}
	s.state.templates[app] = slices.Clone(list)
	return nil
}

// Templates returns an app's templates, as set or made up.
func (s *Server) Templates(app string) []Template {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list, set := s.state.templates[app]; set {
		return slices.Clone(list)
	}
	return slices.Concat(madeUpTemplates(app), madeUpAccountTemplates(app))
}

// longTerm reports whether a template is known as long-term. The caller holds s.mu.
func (s *Server) longTerm(app, id string) bool {
	t, _ := findTemplate(s.state.templates[app], id)
	return t.Type == LongTerm
}

func findTemplate(list []Template, id string) (Template, bool) {
	i := slices.IndexFunc(list, func(t Template) bool { return t.ID == id })
	if i < 0 {
		return Template{}, false
	}
	return list[i], true
}

// filled is a message that fills a template.
type filled interface {
	request
	values() map[string]dataValue
	faults() valueFaults
}

func (m *templated) values() map[string]dataValue { return m.Data.Value }

// checkTemplate refuses a message that does not fit the templates that SetTemplates has set. Further fields are ignored. The
// caller holds s.mu.
func (s *Server) checkTemplate(x *exchange) *refusal {
	m, ok := x.req.(filled)
	list, set := s.state.templates[x.app.id]
	if !ok || !set {
		return nil
	}
	t, known := findTemplate(list, m.template())
	if !known {
		return refuse(40037)
	}
	for _, key := range s.env.keysOf(t) {
		value, given := m.values()[key]
		text, _ := value.text()
		switch {
		case !given:
			return &refusal{47003, fmt.Sprintf(m.faults().empty, key)}
		case t.Enums[key] != nil && !slices.Contains(t.Enums[key], text):
			return &refusal{47003, fmt.Sprintf(m.faults().invalid, key)}
		}
	}
	return nil
}

// privateTemplate is a template in an account's list for subscribe messages.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getmessagetemplatelist.html
type privateTemplate struct {
	ID      string          `json:"priTmplId"`
	Title   string          `json:"title"`
	Content string          `json:"content"`
	Example string          `json:"example"`
	Type    int             `json:"type"` // 2 one-time, 3 long-term
	Enums   []templateField `json:"keywordEnumValueList,omitempty"`
}

// templateField lists the values that a field of an enumerated type accepts.
type templateField struct {
	Values  []string `json:"enumValueList"`
	Keyword string   `json:"keywordCode"`
}

// madeUpTemplates returns the same two templates for each mini program, with ids of its own.
func madeUpTemplates(app string) []Template {
	return []Template{
		{
			ID: madeup.Name(43, "template", app, "1"), Title: "订单发货通知", Type: OneTime,
			Content: "订单编号:{{character_string1.DATA}}\n商品名称:{{thing2.DATA}}\n发货时间:{{time3.DATA}}\n",
			Example: "订单编号:SF1234567890\n商品名称:雨伞\n发货时间:2025-01-01 12:00\n",
		},
		{
			ID: madeup.Name(43, "template", app, "2"), Title: "预约提醒", Type: LongTerm,
			Content: "预约人:{{name1.DATA}}\n预约时段:{{enum2.DATA}}\n",
			Example: "预约人:张三\n预约时段:上午\n",
			Enums:   map[string][]string{"enum2": {"上午", "下午"}},
		},
	}
}

// madeUpAccountTemplates returns the same two templates for each official account, likewise.
func madeUpAccountTemplates(app string) []Template {
	return []Template{
		{
			ID: madeup.Name(43, "template", app, "3"), Title: "订单支付成功通知", Primary: "IT科技", Deputy: "互联网|电子商务",
			Content: "订单编号：{{character_string1.DATA}}\n支付金额：{{amount2.DATA}}\n",
			Example: "订单编号：SF1234567890\n支付金额：12.50元\n",
		},
		{
			ID: madeup.Name(43, "template", app, "4"), Title: "预约成功通知", Primary: "IT科技", Deputy: "互联网|电子商务",
			Content: "预约人：{{thing1.DATA}}\n预约时间：{{time2.DATA}}\n预约状态：{{const3.DATA}}\n",
			Example: "预约人：张三\n预约时间：2025年1月1日 12:00\n预约状态：预约成功\n",
		},
	}
}

// listTemplates returns the templates that SetTemplates has set, or the given ones.
func (s *Server) listTemplates(app string, otherwise func(string) []Template) []Template {
	s.mu.Lock()
	defer s.mu.Unlock()
	if list, set := s.state.templates[app]; set {
		return list
	}
	return otherwise(app)
}

// answerTemplates returns the templates of a mini program.
func answerTemplates(s *Server, x *exchange) reply {
	list := []privateTemplate{}
	for _, t := range s.listTemplates(x.app.id, madeUpTemplates) {
		p := privateTemplate{ID: t.ID, Title: t.Title, Content: t.Content, Example: t.Example, Type: max(t.Type, OneTime)}
		for _, key := range slices.Sorted(maps.Keys(t.Enums)) {
			p.Enums = append(p.Enums, templateField{t.Enums[key], key + ".DATA"})
		}
		list = append(list, p)
	}
	return jsonReply(struct {
		plainAnswer
		Data []privateTemplate `json:"data"`
	}{plainAnswer{ErrMsg: "ok"}, list})
}

// accountTemplate is a template in an official account's list.
// Source: https://developers.weixin.qq.com/doc/service/api/notify/template/api_getalltemplates.html
type accountTemplate struct {
	ID      string `json:"template_id"`
	Title   string `json:"title"`
	Primary string `json:"primary_industry"`
	Deputy  string `json:"deputy_industry"`
	Content string `json:"content"`
	Example string `json:"example"`
}

// answerAccountTemplates returns the templates of an official account. WeChat's answer has no errcode.
func answerAccountTemplates(s *Server, x *exchange) reply {
	list := []accountTemplate{}
	for _, t := range s.listTemplates(x.app.id, madeUpAccountTemplates) {
		list = append(list, accountTemplate{t.ID, t.Title, t.Primary, t.Deputy, t.Content, t.Example})
	}
	return jsonReply(struct {
		List []accountTemplate `json:"template_list"`
	}{list})
}
