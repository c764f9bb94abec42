package campaign_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign"
	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	testApp = "wx0123456789abcdef"
	message = `body:
  touser: "{{openid}}"
  template_id: T1
  page: pages/coupon?name={{姓名|url}}
  data:
    thing1: {value: "{{姓名|cut:10}}，您的券"}
    number2: {value: "{{张数}}"}
`
)

var testNow = time.Date(2026, 12, 1, 8, 0, 0, 0, time.FixedZone("", 8*3600))

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openTable(t testing.TB, text string) *table.Table {
	t.Helper()
	opened, err := table.Open(strings.NewReader(text), int64(len(text)), "people.csv")
	must(t, err)
	return opened
}

func parse(t testing.TB, text string) *campaign.Template {
	t.Helper()
	parsed, err := campaign.ParseTemplate([]byte(text))
	must(t, err)
	return parsed
}

// planFor returns a complete plan.
func planFor(t testing.TB, people, template string) campaign.Plan {
	t.Helper()
	plan, err := campaign.Plan{App: testApp, Type: "send:subscribe", Batch: "spring", Table: openTable(t, people), Template: parse(t, template)}.Complete()
	must(t, err)
	return plan
}

func check(t testing.TB, people, template string) *campaign.Checked {
	t.Helper()
	c, err := campaign.Check(t.Context(), planFor(t, people, template), testNow)
	must(t, err)
	return c
}

// faults returns the faults of all rows, as "line: fault".
func faults(c *campaign.Checked) (all []string) {
	for f := range c.FaultsOf {
		all = append(all, fmt.Sprintf("%d: %s", f.Line, f))
	}
	return all
}

// Values are data: a cell cannot change the message, whatever it contains.
func TestCellsAreData(t *testing.T) {
	name := `"},"x":{"a":"{{openid}}\` + "\u2028<script>: - #"
	c := check(t, "openid,姓名,张数\no123456789,\""+strings.ReplaceAll(name, `"`, `""`)+"\",3\n", strings.Replace(message, "{{姓名|cut:10}}，您的券", "a{{ 姓名 | cut:12 }}", 1))
	if c.Valid != 1 {
		t.Fatal(faults(c))
	}
	var body struct {
		ToUser string `json:"touser"`
		Page   string
		Data   map[string]struct{ Value string }
	}
	must(t, json.Unmarshal(c.Preview.Body, &body))
	if want := "a" + `"},"x":{"a"` + "…"; body.Data["thing1"].Value != want || len(body.Data) != 2 {
		t.Errorf("%q, want %q, in %s", body.Data["thing1"].Value, want, c.Preview.Body)
	}
	if body.ToUser != "o123…" {
		t.Errorf("the receiver is %q", body.ToUser)
	}
	if strings.ContainsAny(body.Page[len("pages/coupon?name="):], "&=?\" <") {
		t.Errorf("the page is %q", body.Page)
	}
}

func TestFilters(t *testing.T) {
	for _, tt := range []struct{ place, cell, want, fault string }{
		{"{{a}}", "x", `"x"`, ""},
		{"{{a}}", "", "", "empty"},
		{"{{a|default:客户}}", "", `"客户"`, ""},
		{"{{a|default:}}", "", `""`, ""},
		{"{{a|default:12345|cut:3}}", "", `"12…"`, ""},
		{"{{a|cut:3}}", "一二三", `"一二三"`, ""},
		{"{{a|cut:3}}", "一二三四", `"一二…"`, ""},
		{"{{a|cut:1}}", "ab", `"…"`, ""},
		{"{{a|number}}", "12.50", `12.50`, ""},
		{"{{a|number}}", "-3", `-3`, ""},
		{"{{a|number}}", "007", "", "not a number"},
		{"{{a|number}}", "1,200", "", "not a number"},
		{"{{a|number}}元", "12.50", `"12.50元"`, ""},
		{"x{{a}}y{{a|url}}z", "1 &", `"x1 &y1%20%26z"`, ""},
		{"{{a}}", "4.2E+17", "", "replaced the last digits"},
	} {
		c := check(t, "openid,a\no1,\""+tt.cell+"\"\n", "body: {touser: '{{openid}}', template_id: T, data: {thing1: {value: x}}, x: '"+tt.place+"'}")
		switch all := faults(c); {
		case tt.fault != "":
			if len(all) != 1 || !strings.Contains(all[0], "column a") || !strings.Contains(all[0], tt.fault) {
				t.Errorf("%s of %q: %q, want %q", tt.place, tt.cell, all, tt.fault)
			}
		case len(all) > 0:
			t.Errorf("%s of %q: %q", tt.place, tt.cell, all)
		case !strings.Contains(string(c.Preview.Body), `"x":`+tt.want+`}`):
			t.Errorf("%s of %q: %s, want %s", tt.place, tt.cell, c.Preview.Body, tt.want)
		}
	}
}

func TestTemplateMistakes(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"empty":                  {"# nothing\n", []string{"empty"}},
		"no envelope":            {"- body\n", []string{"must be an envelope"}},
		"no body":                {"priority: bulk\n", []string{"body: required"}},
		"a field of no envelope": {"bodi: {}\n", []string{"line 1", `"bodi"`, `did you mean "body"?`}},
		"an id":                  {"id: x\nbody: {}\n", []string{"line 1: id", "leave it out"}},
		"no quotes":              {"body:\n  touser: {{openid}}\n", []string{"line 2", `"{{…}}"`}},
		"no quotes in a list":    {"body:\n  a:\n    - {{openid}}\n", []string{"line 3", `"{{…}}"`}},
		"twice":                  {"body: {}\nbody: {}\n", []string{"line 2", "already defined"}},
		"an alias":               {"body: {a: &x 1, b: *x}\n", []string{"anchors"}},
		"two documents":          {"body: {}\n---\nbody: {}\n", []string{"line 3", "second YAML document"}},
		"a column in a name":     {"body: {'{{a}}': 1}\n", []string{"in values, not in names"}},
		"a column in the app":    {"app: '{{a}}'\nbody: {}\n", []string{"app", "same for all rows"}},
		"an unknown filter":      {"body: {a: '{{x|cuts:3}}'}\n", []string{"body.a", `"cuts"`, `did you mean "cut"?`}},
		"a filter of nothing":    {"body: {a: '{{x|}}'}\n", []string{"the filters are cut:20, default:text, number, url"}},
		"cut by nothing":         {"body: {a: '{{x|cut}}'}\n", []string{"cut:20"}},
		"number of something":    {"body: {a: '{{x|number:2}}'}\n", []string{"takes no argument"}},
		"default of nothing":     {"body: {a: '{{x|default}}'}\n", []string{"default:客户"}},
		"no end":                 {"body: {a: 'b{{x'}\n", []string{"{{ without }}"}},
		"no column":              {"body: {a: '{{ }}'}\n", []string{"without the name of a column"}},
		"a number of YAML":       {"body: {a: 0x1f}\n", []string{"not a number of JSON"}},
		"several":                {"bodi: {}\nbody: {a: '{{x', b: '{{ }}'}\n", []string{"bodi", "body.a", "body.b"}},
		"too large":              {"body: {a: '" + strings.Repeat("x", 70_000) + "'}\n", []string{"70"}},
	} {
		_, err := campaign.ParseTemplate([]byte(tt.text))
		var mistakes *campaign.TemplateError
		if !errors.As(err, &mistakes) {
			t.Errorf("%s: %T %v", name, err, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not contain %q", name, err, want)
			}
		}
	}
}

// The digest of a template is that of its content.
func TestTemplateDigest(t *testing.T) {
	a, b, c := parse(t, "body: {a: '{{x}}'}"), parse(t, "# c\nbody:\n  a: \"{{x}}\"\n"), parse(t, "body: {a: '{{y}}'}")
	if a.Digest != b.Digest || a.Digest == c.Digest {
		t.Errorf("%s %s %s", a.Digest, b.Digest, c.Digest)
	}
}

func TestPlanMistakes(t *testing.T) {
	people := openTable(t, "open_id,姓名,张数\no1,a,1\n")
	plan := campaign.Plan{App: "wx1", Type: "send:subscibe", Batch: "a b", Rate: -1, Table: people, Template: parse(t, "app: wx2\nprocess_at: 2026-12-01T08:00:00+08:00\n"+message)}
	_, err := plan.Complete()
	var mistakes *campaign.PlanError
	if !errors.As(err, &mistakes) {
		t.Fatal(err)
	}
	for _, want := range []string{"app: \"wx1\", but the template says", "app id", `did you mean "send:subscribe"?`, "batch: \"a b\"", "template: it has process_at", "rate: ", "{{openid}}: did you mean {{open_id}}?"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not contain %q", err, want)
		}
	}
	_, err = campaign.Plan{Table: people, Template: parse(t, "body: {}")}.Complete()
	for _, want := range []string{"app: required", "type: required", "batch: required", "it uses no column"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not contain %q", err, want)
		}
	}
	whole, err := campaign.Plan{Table: people, Template: parse(t, "app: "+testApp+"\ntype: send:custom\nbatch: b\nbody: {touser: '{{open_id}}'}")}.Complete()
	if err != nil || whole.App != testApp || whole.Type != "send:custom" || whole.Batch != "b" {
		t.Errorf("%+v %v", whole, err)
	}
}

// Every row is checked; faults of a kind are counted together, and no cell of the table is in them.
func TestCheck(t *testing.T) {
	people := "openid,姓名,张数,unused\n" +
		"o1,secret,1,4.2E+17\n" + // 2
		"o2,,1,\n" + // 3: no name
		"o3,b,1,,extra\n" + // 4: a cell beyond the header
		"o1,c,1,\n" + // 5: as line 2
		"o 5,d,1,\n" + // 6: a space
		"o6,e,1.5E+10,\n" + // 7: lost digits
		"o7,f,secret,\n" + // 8: no number
		"o8,,,\n" + // 9: two faults
		"o2,g,1,\n" + // 10: good, as line 3 is at fault
		"o1,h,1,\n" // 11: as line 2
	c := check(t, people, message)
	want := []string{
		"3: column 姓名: empty: fill it in, or write {{姓名|default:…}} in the template",
		"4: a cell in column E, which has no header: is a delimiter inside of a cell?",
		"5: the same receiver as in an earlier row (line 2)",
		"6: column openid (body.touser): a space at character 2; an id has none: send it as WeChat gave it",
		"7: column 张数: a spreadsheet has replaced the last digits of this number: format the column as text, and paste the numbers again",
		"8: column 张数 (body.data.number2.value): no digit; a number keyword takes digits only, at most 32, with or without decimals",
		"9: column 姓名: empty: fill it in, or write {{姓名|default:…}} in the template",
		"9: column 张数: empty: fill it in, or write {{张数|default:…}} in the template",
		"11: the same receiver as in an earlier row (line 2)",
	}
	if got := faults(c); !slices.Equal(got, want) {
		t.Errorf("faults\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if c.Rows != 10 || c.Valid != 2 || c.Faulty() != 8 || c.Preview.Line != 2 {
		t.Errorf("%d rows, %d valid, preview of line %d", c.Rows, c.Valid, c.Preview.Line)
	}
	if k := c.Kinds[0]; k.Count != 2 || !slices.Equal(k.Lines, []int{3, 9}) || k.Example.Column != "姓名" {
		t.Errorf("the first kind: %+v", k)
	}
	if k := c.Kinds[1]; k.Count != 2 || !slices.Equal(k.Lines, []int{5, 11}) {
		t.Errorf("the second kind: %+v", k)
	}
	shown, err := json.Marshal(c.Kinds)
	must(t, err)
	if bytes.Contains(shown, []byte("secret")) {
		t.Errorf("%s has a cell of the table", shown)
	}
}

// Faults of a kind differ in numbers at most.
func TestKinds(t *testing.T) {
	people := "openid,姓名,张数\n"
	for i := range 40 {
		people += fmt.Sprintf("o%d,%s,1\n", i, strings.Repeat("长", 8+i))
	}
	c := check(t, people, strings.Replace(message, "|cut:10", "", 1))
	if c.Valid != 9 || len(c.Kinds) != 1 || c.Kinds[0].Count != 31 || len(c.Kinds[0].Lines) != 5 || c.Kinds[0].Lines[0] != 11 {
		t.Errorf("%d valid, %+v", c.Valid, c.Kinds)
	}
}

// Times of the envelope may come from columns; one that has passed is a fault.
func TestTimes(t *testing.T) {
	c := check(t, "openid,姓名,张数,bis\no1,a,1,2026-12-02T08:00:00+08:00\no2,a,1,2026-11-30T08:00:00+08:00\no3,a,1,tomorrow\n",
		message+"not_after: '{{bis}}'\npriority: bulk\nignore_hours: true\n")
	want := []string{"3: column bis (not_after): has passed: the message would not be sent"}
	got := faults(c)
	if len(got) != 2 || got[0] != want[0] || !strings.HasPrefix(got[1], "4: column bis (not_after): ") {
		t.Errorf("%q", got)
	}
	if c.Priority != "bulk" || !c.IgnoreHours || c.NotAfter.Day() != 2 {
		t.Errorf("%+v", c)
	}
}

// Types without a receiver: rows with the same content are one.
func TestWithoutReceiver(t *testing.T) {
	plan, err := campaign.Plan{
		App: testApp, Type: "scheme:generate", Batch: "b", Table: openTable(t, "shop\n1\n2\n1\n"),
		Template: parse(t, "body: {jump_wxa: {path: pages/shop, query: 'id={{shop|url}}'}, is_expire: true, expire_type: 1, expire_interval: 30}"),
	}.Complete()
	must(t, err)
	c, err := campaign.Check(t.Context(), plan, testNow)
	must(t, err)
	if got := faults(c); c.Valid != 2 || len(got) != 1 || got[0] != "4: the same content as in an earlier row (line 2)" {
		t.Errorf("%d valid, %q", c.Valid, got)
	}
}

// The digest of a table is that of the cells that the template uses.
func TestTableDigest(t *testing.T) {
	a := check(t, "openid,姓名,张数,x\no1,a,1,1\n", message).Digest
	for people, same := range map[string]bool{
		"x,张数,姓名,openid\r\n2,1,a,o1\r\n": true, "openid,姓名,张数\no1,b,1\n": false, "openid,姓名,张数\no1,a,1\no2,a,1\n": false, "openid,姓名,张数\no1a,1,1\n": false,
	} {
		if got := check(t, people, message).Digest; (got == a) != same {
			t.Errorf("%q: %s and %s", people, got, a)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(message, "o1", "王小明")
	f.Add("body: {touser: '{{openid}}', x: [1, {a: '{{姓名|number}}'}], y: |\n  {{姓名}}\n}", "o1", "12")
	f.Add("app: wx\nbody:\n  a: {{x}}\n", "", "\"")
	f.Fuzz(func(t *testing.T, text, openid, name string) {
		template, err := campaign.ParseTemplate([]byte(text))
		if err != nil {
			var mistakes *campaign.TemplateError
			if !errors.As(err, &mistakes) || len(mistakes.Problems) == 0 {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		quote := func(s string) string {
			return `"` + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), `"`, `""`) + `"`
		}
		people := "openid,姓名,张数\n" + quote("o"+openid) + "," + quote(name) + ",1\n"
		opened, err := table.Open(strings.NewReader(people), int64(len(people)), "")
		if err != nil {
			return
		}
		plan, err := campaign.Plan{App: testApp, Type: "send:custom", Batch: "b", Table: opened, Template: template}.Complete()
		if err != nil {
			return
		}
		c, err := campaign.Check(t.Context(), plan, testNow)
		if err != nil {
			return
		}
		for f := range c.FaultsOf { // a cell can be at fault; it never breaks the JSON of the message
			if f.Path == "" && f.Column == "" && strings.Contains(f.Problem, "JSON") {
				t.Fatalf("template %q, cells %q: %s", text, people, f)
			}
		}
		if c.Preview != nil && !json.Valid(c.Preview.Body) {
			t.Fatalf("%s", c.Preview.Body)
		}
	})
}

// The template that the pages show can be sent.
func TestTemplateOfThePages(t *testing.T) {
	for _, page := range []string{"../../docs/campaign.md", "../../docs/zh-CN/campaign.md"} {
		text, err := os.ReadFile(page) //nolint:gosec // a file of this project
		must(t, err)
		_, sample, _ := strings.Cut(string(text), "```yaml\n")
		sample, _, _ = strings.Cut(sample, "```")
		c := check(t, "openid,姓名,金额,到期\no1,王小明,12.50,\n", sample)
		if c.Valid != 1 {
			t.Errorf("%s: %q", page, faults(c))
		}
	}
}
