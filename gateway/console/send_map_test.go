package console

import (
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/templates"
)

// TestMapFields: a column with the name or the label of a field is chosen, a chosen one takes
// precedence, and what is written is a template of a campaign.
func TestMapFields(t *testing.T) {
	post := httptest.NewRequest("POST", "/send", strings.NewReader(url.Values{"column_time2": {`when "exactly"`}}.Encode()))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r := &request{Request: post}
	m := &fieldMap{From: "T1", Columns: []string{"openid", "商品名称", "time2", `when "exactly"`}}
	m.fields(r, templates.Template{ID: "T1", Fields: []templates.Field{{Name: "thing1", Label: "商品名称"}, {Name: "time2", Label: "发货时间"}, {Name: "enum3", Label: "时段"}}})
	if m.Receiver != "openid" || m.Fields[0].Column != "商品名称" || m.Fields[1].Column != `when "exactly"` || m.Fields[2].Column != "" {
		t.Fatalf("%+v", m)
	}
	v := &sendView{}
	if m.fill(r, v); v.Form.Template != "" || len(v.Faults("map")) != 1 {
		t.Errorf("a field without a column: %+v", v)
	}
	v, m.Fields = &sendView{}, m.Fields[:2]
	m.fill(r, v)
	parsed, err := campaign.ParseTemplate([]byte(v.Form.Template))
	if err != nil {
		t.Fatalf("%v in\n%s", err, v.Form.Template)
	}
	if got := strings.Join(parsed.Columns(), "|"); got != `openid|商品名称|when "exactly"` {
		t.Errorf("the template uses %s:\n%s", got, v.Form.Template)
	}
}
