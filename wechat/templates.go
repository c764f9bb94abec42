package wechat

import (
	"context"
	"net/http"
	"regexp"
	"strings"
)

// Template is a message template of an app.
type Template struct {
	ID      string // priTmplId or template_id, as a message names it
	Title   string
	Content string // with a placeholder for each field: "商品名称:{{thing2.DATA}}\n"
	Example string // the content with values
	Kind    TemplateKind
	// Industry and SubIndustry are those of a template of [EndpointAccountTemplates].
	Industry, SubIndustry string
	Fields                []TemplateField // in the order of the content
}

// TemplateKind says how often a person who accepts a subscribe message may be written to.
type TemplateKind int

// The kinds of templates for subscribe messages; 0 is a kind that WeChat did not name, and that of
// the templates of [EndpointAccountTemplates].
const (
	TemplateOneTime  TemplateKind = 2 // one message for each acceptance
	TemplateLongTerm TemplateKind = 3
)

// TemplateField is a field of a template.
type TemplateField struct {
	Name   string   // the key in the data of a message: "thing2"
	Label  string   // the text before it in the content: "商品名称"; "" if there is none
	Values []string // of an enumerated field: those that WeChat accepts
}

// The endpoints with an app's list of templates. An official account has a list for subscribe
// messages and one for template messages, a mini program has the first one. WeChat answers 48001 for a
// list that an app does not have.
const (
	EndpointSubscribeTemplates Endpoint = "/wxaapi/newtmpl/gettemplate"
	EndpointAccountTemplates   Endpoint = "/cgi-bin/template/get_all_private_template"
)

// Templates asks WeChat for the templates of an app, from one of the two endpoints.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/mp-message-management/subscribe-message/api_getmessagetemplatelist.html
// https://developers.weixin.qq.com/doc/service/api/notify/template/api_getalltemplates.html
func (c *Client) Templates(ctx context.Context, app string, from Endpoint) ([]Template, error) {
	answer, err := c.CallRaw(ctx, app, RawRequest{Path: from, Method: http.MethodGet})
	if err != nil {
		return nil, err
	}
	return DecodeTemplates(from, answer)
}

// DecodeTemplates reads the answer to a call of one of the two endpoints. The error is an *[APIError]
// for an answer with an errcode, else an *[AnswerError].
func DecodeTemplates(from Endpoint, answer RawAnswer) ([]Template, error) {
	rep := reply{endpoint: from, status: answer.Status, header: answer.Header, body: answer.Body}
	var v struct {
		status
		Data []templateJSON `json:"data"`
		List []templateJSON `json:"template_list"`
	}
	if err := rep.decode(&v, &v.status, sensitiveValues{}); err != nil {
		return nil, err
	}
	found := v.Data
	if from == EndpointAccountTemplates {
		found = v.List
	}
	if found == nil && !v.ErrCode.present {
		return nil, rep.answerError("no list of templates in the answer")
	}
	templates := make([]Template, 0, len(found))
	for _, t := range found {
		if id := string(t.PrivateID + t.TemplateID); id != "" {
			templates = append(templates, t.template(id))
		}
	}
	return templates, nil
}

// templateJSON is a template of either endpoint.
type templateJSON struct {
	PrivateID   text   `json:"priTmplId"`
	TemplateID  text   `json:"template_id"`
	Title       text   `json:"title"`
	Content     string `json:"content"`
	Example     string `json:"example"`
	Type        number `json:"type"`
	Industry    text   `json:"primary_industry"`
	SubIndustry text   `json:"deputy_industry"`
	Enums       []struct {
		Name   text   `json:"keywordCode"` // "enum_string2.DATA"
		Values []text `json:"enumValueList"`
	} `json:"keywordEnumValueList"`
}

func (t templateJSON) template(id string) Template {
	all := Template{
		ID: id, Title: string(t.Title), Content: t.Content, Example: t.Example, Kind: TemplateKind(t.Type.value),
		Industry: string(t.Industry), SubIndustry: string(t.SubIndustry), Fields: parseFields(t.Content),
	}
	for _, enum := range t.Enums {
		name := strings.TrimSuffix(string(enum.Name), ".DATA")
		for i := range all.Fields {
			if f := &all.Fields[i]; f.Name == name {
				for _, value := range enum.Values {
					f.Values = append(f.Values, string(value))
				}
			}
		}
	}
	return all
}

// placeholder matches a field in the content of a template. WeChat's pages write some with spaces.
var placeholder = regexp.MustCompile(`\{\s*\{\s*([A-Za-z0-9_]+)\s*\.\s*DATA\s*\}\s*\}`)

// parseFields returns the fields in the content of a template, each once. The label of a field is the
// text before it on its line, after the field before it.
func parseFields(content string) []TemplateField {
	var fields []TemplateField
	known := make(map[string]bool)
	from := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(content, -1) {
		label := content[from:at[0]]
		if end := strings.LastIndexByte(label, '\n'); end >= 0 {
			label = label[end+1:]
		}
		from = at[1]
		name := content[at[2]:at[3]]
		if known[name] {
			continue
		}
		known[name] = true
		label = strings.TrimSpace(strings.TrimRight(strings.TrimSpace(label), ":："))
		fields = append(fields, TemplateField{Name: name, Label: label})
	}
	return fields
}
