package console

import (
	"encoding/json"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
)

// TestMapFields: a column with the name or the label of a field is chosen, a chosen one takes
// precedence, and what is written is a template of a campaign.
func TestMapFields(t *testing.T) {
	post := httptest.NewRequestWithContext(t.Context(), "POST", "/send", strings.NewReader(url.Values{"column_time2": {`when "exactly"`}}.Encode()))
	post.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r := &request{Request: post}
	m := &fieldMap{From: "T1", Columns: []string{"openid", "商品名称", "time2", `when "exactly"`}}
	m.fields(r, templates.Template{ID: "T1", Fields: []templates.Field{{Name: "thing1", Label: "商品名称"}, {Name: "time2", Label: "发货时间"}, {Name: "enum3", Label: "时段"}}})
	if m.Receiver != "openid" || m.Fields[0].Column != "商品名称" || m.Fields[1].Column != `when "exactly"` || m.Fields[2].Column != "" {
		t.Fatalf("%+v", m)
	}
	v := &sendView{}
	m.Fields = m.Fields[:2]
	m.fill(r, v)
	parsed, err := campaign.ParseTemplate([]byte(v.Form.Template))
	if err != nil {
		t.Fatalf("%v in\n%s", err, v.Form.Template)
	}
	if got := strings.Join(parsed.Columns(), "|"); got != `openid|商品名称|when "exactly"` {
		t.Errorf("the template uses %s:\n%s", got, v.Form.Template)
	}
}

// TestMapOntoTemplate: the form shows the app's templates of the type, then the fields of the chosen one,
// and writes the template with which the table is checked; in both languages.
func TestMapOntoTemplate(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		registry := &templates.Registry{Mode: templates.Mode{Check: templates.CheckReject}}
		registry.SetList(templates.Subscribe, []templates.Template{{ID: "T1", Title: "<b>发货", Kind: templates.OneTime, Fields: []templates.Field{
			{Name: "name1", Kind: "name", Label: "name"}, {Name: "enum2", Kind: "enum", Label: "时段", Values: []string{"上午", "下午"}},
		}}}, time.Now())
		registry.SetList(templates.Account, []templates.Template{{ID: "A1", Title: "模板消息"}}, time.Now())
		text, err := json.Marshal(registry)
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.Set(t.Context(), templates.Key(testApp), text, 0).Err(); err != nil {
			t.Fatal(err)
		}
		people := "people.csv\nopenid,name,when\noSecretPerson1,张三,上午\noSecretPerson2,李四,晚上\n"
		for lang, says := range map[string][2]string{"en": {"One of:", "Choose a column for enum2"}, "zh": {"可选值：", "请为 enum2 选择一列"}} {
			u := newSite(t, rdb).as(oneAppKey).speaking(lang)
			a := u.upload(campaignFields("table", people, "step", "fields", "template", ""))
			kept := regexp.MustCompile(`name="draft" value="([^"]+)"`).FindStringSubmatch(a.body)
			if a.status != http.StatusOK || kept == nil || !strings.Contains(a.body, `<option value="T1">&lt;b&gt;发货 · T1</option>`) || strings.Contains(a.body, "A1") {
				t.Fatalf("%s: the templates: %d\n%s", lang, a.status, a.body)
			}
			form := []string{"draft", kept[1], "table", "\n", "from", "T1", "template", ""}
			a = u.upload(campaignFields(append(form, "step", "fields")...))
			for _, want := range []string{`id="column_name1"`, "<option selected>name</option>", "<option selected>openid</option>", says[0] + " 上午, 下午"} {
				if !strings.Contains(a.body, want) {
					t.Errorf("%s: the fields lack %s:\n%s", lang, want, a.body)
				}
			}
			if a = u.upload(campaignFields(append(form, "step", "fill")...)); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, says[1]) {
				t.Errorf("%s: a field without a column:\n%s", lang, faultsIn(a.body))
			}
			a = u.upload(campaignFields(append(form, "step", "fill", "column_enum2", "when")...))
			filled := regexp.MustCompile(`(?s)<textarea[^>]*>(.*?)</textarea>`).FindStringSubmatch(a.body)
			if filled == nil || !strings.Contains(html.UnescapeString(filled[1]), `enum2: {value: "{{when}}"}`) {
				t.Fatalf("%s: the template: %q", lang, filled)
			}
			page := u.get(u.uploaded("draft", kept[1], "table", "\n", "template", html.UnescapeString(filled[1]), "batch", "b-"+lang)).body
			if !strings.Contains(page, "enum2") || !strings.Contains(page, "上午, 下午") {
				t.Errorf("%s: a value that is not in the list is no fault:\n%s", lang, page)
			}
			if strings.Contains(page, "oSecretPerson2") || strings.Contains(page, "晚上") {
				t.Error("the page has what is in the table")
			}
		}
	})
}
