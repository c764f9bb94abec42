package wechat

import (
	"errors"
	"reflect"
	"testing"
)

// The answers of WeChat's pages, with a few more fields.
func TestDecodeTemplates(t *testing.T) {
	tests := []struct {
		name string
		from Endpoint
		body string
		want []Template
	}{
		{"subscribe", EndpointSubscribeTemplates, `{"errcode":0,"errmsg":"ok","data":[
			{"priTmplId":"T1","title":"报名结果通知","content":"会议时间:{{date2.DATA}}\n会议地点：{{thing1.DATA}}\n","example":"会议时间:2016年8月8日\n","type":2},
			{"priTmplId":"T2","title":"洗衣机故障提醒","content":"完成时间:{{time1.DATA}}\n所在位置:{{enum_string2.DATA}}\n","example":"","type":"3",
			 "keywordEnumValueList":[{"keywordCode":"enum_string2.DATA","enumValueList":["客厅","厨房"]},{"keywordCode":"other9","enumValueList":["x"]}]}]}`, []Template{
			{ID: "T1", Title: "报名结果通知", Kind: TemplateOneTime, Fields: []TemplateField{{Name: "date2", Label: "会议时间"}, {Name: "thing1", Label: "会议地点"}}},
			{ID: "T2", Title: "洗衣机故障提醒", Kind: TemplateLongTerm, Fields: []TemplateField{
				{Name: "time1", Label: "完成时间"}, {Name: "enum_string2", Label: "所在位置", Values: []string{"客厅", "厨房"}},
			}},
		}},
		{"account", EndpointAccountTemplates, `{"template_list":[{"template_id":"iPk5","title":"领取奖金提醒","primary_industry":"IT科技","deputy_industry":"互联网|电子商务",
			"content":"{ {result.DATA} }\n\n领奖金额:{ {withdrawMoney.DATA} }\n领奖  时间:    { {withdrawTime.DATA} } 银行:{{card.DATA}}\n{{result.DATA}}","example":"x"}]}`, []Template{
			{ID: "iPk5", Title: "领取奖金提醒", Industry: "IT科技", SubIndustry: "互联网|电子商务", Fields: []TemplateField{
				{Name: "result"}, {Name: "withdrawMoney", Label: "领奖金额"}, {Name: "withdrawTime", Label: "领奖  时间"}, {Name: "card", Label: "银行"},
			}},
		}},
		{"none", EndpointSubscribeTemplates, `{"errcode":0,"errmsg":"ok","data":[]}`, []Template{}},
		{"none, without a list", EndpointSubscribeTemplates, `{"errcode":0,"errmsg":"ok"}`, []Template{}},
	}
	for _, tt := range tests {
		got, err := DecodeTemplates(tt.from, RawAnswer{Status: 200, Body: []byte(tt.body)})
		for i := range got {
			got[i].Content, got[i].Example = "", ""
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
	}
}

func TestDecodeTemplatesFails(t *testing.T) {
	var api *APIError
	_, err := DecodeTemplates(EndpointAccountTemplates, RawAnswer{Status: 200, Body: []byte(`{"errcode":48001,"errmsg":"api unauthorized"}`)})
	if !errors.As(err, &api) || api.Code != 48001 {
		t.Errorf("the error of an app without this list is %v", err)
	}
	for _, body := range []string{`{}`, `<html>`, `{"template_list":{}}`, `{"errcode":0,"data":"x"}`, ``} {
		if found, err := DecodeTemplates(EndpointAccountTemplates, RawAnswer{Status: 200, Body: []byte(body)}); err == nil && body != `{"errcode":0,"data":"x"}` || len(found) > 0 {
			t.Errorf("%s: %v, %v", body, found, err)
		}
	}
}

func FuzzDecodeTemplates(f *testing.F) {
	f.Add(`{"errcode":0,"data":[{"priTmplId":"T1","content":"a:{{thing1.DATA}}","keywordEnumValueList":[{"keywordCode":"thing1.DATA","enumValueList":["x",1,null]}]}]}`)
	f.Add(`{"data":[null,{"priTmplId":1,"type":null,"content":"{{{{.DATA}}"}]}`)
	f.Fuzz(func(t *testing.T, body string) {
		found, _ := DecodeTemplates(EndpointSubscribeTemplates, RawAnswer{Status: 200, Body: []byte(body)})
		for _, template := range found {
			for _, field := range template.Fields {
				if template.ID == "" || field.Name == "" {
					t.Errorf("%+v", template)
				}
			}
		}
	})
}
