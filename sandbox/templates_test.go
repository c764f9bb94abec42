package sandbox

import (
	"strings"
	"testing"
)

func TestAccountTemplateList(t *testing.T) {
	s := New(Options{})
	a := postAs(t, s, testApp, pathAccountTemplates, "")
	if !strings.HasPrefix(a.raw, `{"template_list":[{"template_id":"`) || !strings.Contains(a.raw, `"primary_industry":"IT科技"`) || !strings.Contains(a.raw, "{{amount2.DATA}}") {
		t.Error(a.raw)
	}
	if list := s.Templates(testApp); len(list) != 4 || !strings.Contains(a.raw, list[2].ID) {
		t.Errorf("%+v", list)
	}
}

// A list that was set is complete, and messages are checked against it.
func TestSetTemplates(t *testing.T) {
	s := New(Options{})
	const data = `{"touser":"oOne","template_id":"TEMPLATE","data":{"thing1":{"value":"雨伞"},"enum2":{"value":"ENUM"}}}`
	send := func(path, template, enum string) answer {
		return post(t, s, path, strings.NewReplacer("TEMPLATE", template, "ENUM", enum).Replace(data))
	}
	if a := send(pathSubscribe, "T9", "夜间"); a.ErrCode != 0 {
		t.Errorf("before the list is set: %s", a.raw)
	}
	list := []Template{
		{ID: "T1", Title: "预约", Content: "物品:{{thing1.DATA}}\n时段:{{ enum2.DATA }}\n", Enums: map[string][]string{"enum2": {"上午", "下午"}}},
		{ID: "T2", Title: "更多", Content: "{{thing1.DATA}}{{time3.DATA}}", Type: LongTerm, Primary: "IT科技"},
	}
	if err := s.SetTemplates(testApp, list); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		path, template, enum string
		code                 int
		has                  string
	}{
		{pathSubscribe, "T1", "上午", 0, ""},
		{pathTemplate, "T1", "下午", 0, ""},
		{pathSubscribe, "T1", "夜间", 47003, "argument invalid! data.enum2.value invalid rid: "},
		{pathTemplate, "T1", "夜间", 47003, "data format error, enum2.DATA is invalid rid: "},
		{pathSubscribe, "T2", "夜间", 47003, "argument invalid! data.time3.value is emtpy rid: "},
		{pathBizSubscribe, "T9", "上午", 40037, "rid: "},
		{pathTemplate, "T9", "上午", 40037, "rid: "},
	}
	for _, tt := range tests {
		if a := send(tt.path, tt.template, tt.enum); a.ErrCode != tt.code || !strings.HasPrefix(a.ErrMsg, tt.has) && tt.code == 47003 {
			t.Errorf("%s %s %s: %s, want %d %s", tt.path, tt.template, tt.enum, a.raw, tt.code, tt.has)
		}
	}
	mini := postAs(t, s, testApp, pathTemplates, "")
	if want := `"data":[{"priTmplId":"T1","title":"预约","content":"物品:{{thing1.DATA}}\n时段:{{ enum2.DATA }}\n","example":"","type":2,"keywordEnumValueList":[{"enumValueList":["上午","下午"],"keywordCode":"enum2.DATA"}]},{"priTmplId":"T2"`; !strings.Contains(mini.raw, want) {
		t.Errorf("%s, want %s", mini.raw, want)
	}
	if !strings.Contains(mini.raw, `"type":3`) {
		t.Error(mini.raw)
	}
	account := postAs(t, s, testApp, pathAccountTemplates, "")
	if want := `{"template_id":"T2","title":"更多","primary_industry":"IT科技","deputy_industry":"","content":"{{thing1.DATA}}{{time3.DATA}}","example":""}`; !strings.Contains(account.raw, want) {
		t.Errorf("%s, want %s", account.raw, want)
	}
	if err := s.SetTemplates(testApp, list[1:]); err != nil { // the first was deleted
		t.Fatal(err)
	}
	if a := send(pathSubscribe, "T1", "上午"); a.ErrCode != 40037 {
		t.Errorf("a deleted template: %s", a.raw)
	}
}

func TestTemplateErrors(t *testing.T) {
	s := New(Options{Apps: map[string]string{testApp: testSecret}})
	good := Template{ID: "T1", Content: "{{thing1.DATA}}"}
	for want, list := range map[string][]Template{
		"templates[0]: id is missing":          {{Content: good.Content}},
		"templates[1]: content has no field":   {good, {ID: "T2", Content: "text"}},
		"templates[0]: type is 4":              {{ID: "T1", Content: good.Content, Type: 4}},
		`templates[0]: enums has "enum2"`:      {{ID: "T1", Content: good.Content, Enums: map[string][]string{"enum2": {"a"}}}},
		`templates[1]: id "T1" is there twice`: {good, good},
	} {
		if err := s.SetTemplates(testApp, list); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := s.SetTemplates("wxother", []Template{good}); err == nil {
		t.Error("an unknown app")
	}
}
