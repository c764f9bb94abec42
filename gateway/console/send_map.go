package console

import (
	"bytes"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// fieldMap is the part of the form that maps the columns of a table onto the fields of a message template.
type fieldMap struct {
	Templates []templates.Template // of the app, for messages of the type
	From      string               // the id of the chosen one; "": none yet
	Columns   []string             // of the table; nil: it was not read
	Receiver  string               // the column with the openids
	Filled    bool                 // the template of the message was written
	Fields    []mappedField        // of the chosen template
}

// mappedField is a field with the column that fills it.
type mappedField struct {
	templates.Field
	Column string // "": none
}

// Choices are the values that a field takes, as text.
func (f mappedField) Choices() string { return strings.Join(f.Values, ", ") }

// The steps of the form besides its check.
const (
	stepFields = "fields" // show the templates of the app, and the fields of the chosen one
	stepFill   = "fill"   // write the template of the message
)

// mapFields takes a step of the mapping. The form is shown again.
func (c *Console) mapFields(r *request, v *sendView, content []byte, step string) error {
	m := &fieldMap{From: r.PostFormValue("from")}
	v.Map = m
	known, err := c.campaigns.templatesOf(r.Context(), v.Form.App)
	if err != nil {
		return err
	}
	for _, t := range known.All() {
		if tasks.FillsTemplateOf(v.Form.Type, t.Source) {
			m.Templates = append(m.Templates, t)
		}
	}
	if content != nil {
		t, err := table.Open(bytes.NewReader(content), int64(len(content)), v.Form.File)
		if err != nil {
			v.fault("table", tableProblem(err))
			return nil
		}
		m.Columns = t.Columns
	}
	chosen := slices.IndexFunc(m.Templates, func(t templates.Template) bool { return t.ID == m.From })
	if chosen < 0 {
		m.From = ""
	} else {
		m.fields(r, m.Templates[chosen])
		if step == stepFill {
			m.fill(r, v)
		}
	}
	return c.keepTable(r, v, content)
}

// fields sets the columns of the fields: those that were chosen, or those of the same name.
func (m *fieldMap) fields(r *request, t templates.Template) {
	m.Receiver = m.column(r.PostFormValue("column_openid"), "openid", "touser", "receiver")
	for _, f := range t.Fields {
		m.Fields = append(m.Fields, mappedField{f, m.column(r.PostFormValue("column_"+f.Name), f.Label, f.Name)})
	}
}

// column returns the first of some names that is one of a column.
func (m *fieldMap) column(names ...string) string {
	for _, name := range names {
		if name != "" && slices.Contains(m.Columns, name) {
			return name
		}
	}
	return ""
}

// fill writes the template of the message, if each field has a column.
func (m *fieldMap) fill(r *request, v *sendView) {
	if m.Receiver == "" {
		v.fault("column_openid", r.text("send.map.missing", "openid"))
	}
	for _, f := range m.Fields {
		if f.Column == "" {
			v.fault("column_"+f.Name, r.text("send.map.missing", f.Name))
		}
	}
	if v.Any() {
		return
	}
	var b strings.Builder
	b.WriteString("body:\n  touser: " + place(m.Receiver) + "\n  template_id: " + quoted(m.From) + "\n  data:\n")
	for _, f := range m.Fields {
		if f.Label != "" {
			b.WriteString("    # " + strings.Join(strings.Fields(f.Label), " ") + "\n")
		}
		b.WriteString("    " + f.Name + ": {value: " + place(f.Column) + "}\n")
	}
	if len(m.Fields) == 0 {
		b.WriteString("    {}\n")
	}
	v.Form.Template, m.Filled = b.String(), true
}

// place returns the place of a column in the template, and quoted a text in it.
func place(column string) string { return quoted("{{" + column + "}}") }

func quoted(text string) string { return string(strictjson.AppendQuote(nil, text)) }
