// Package traffic makes sample tasks, to show a running system.
//
//	for n := range 100 {
//		_, err := client.Submit(ctx, traffic.Task(n))
//	}
package traffic

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// Apps returns the app ids of the sample tasks. They belong to no real app.
func Apps() []string { return []string{"wx00000000000000d1", "wx00000000000000d2"} }

// HeldTemplate is a template of the sample tasks, for a hold.
const HeldTemplate = "receipt"

// CampaignTask returns the nth task of a campaign: bulk messages of one batch to a person each, of
// whom some have refused, and some do not get theirs although WeChat accepts it.
func CampaignTask(n int) tasks.Envelope {
	openid := "oCampaign" + strconv.Itoa(n)
	switch {
	case n%9 == 4:
		openid = "unsubscribed-" + openid
	case n%1500 == 40:
		openid = "badopenid-" + openid
	case n%70 == 13:
		openid = "busy-" + openid
	case n%25 == 7: // the receipts of these and the next say so, or are missing
		openid = "userblock-" + openid
	case n%90 == 20:
		openid = "systemfailed-" + openid
	case n%40 == 11:
		openid = "noreceipt-" + openid
	}
	body := `{"touser":"` + openid + `","template_id":"spring","page":"pages/sale/sale","data":{"thing1":{"value":"春季特惠"},"time2":{"value":"2026年12月1日 08:00"}}}`
	return tasks.Envelope{
		Type: tasks.TypeSubscribe, App: Apps()[1], Batch: "spring-sale", ID: "spring-" + strconv.Itoa(n), Priority: tasks.Bulk,
		Body: json.RawMessage(body),
	}
}

// A sample is a template of tasks. OPENID and NUMBER are placeholders.
type sample struct{ typ, body string }

// samples returns the templates, which Task uses in turn.
func samples() []sample {
	return []sample{
		{tasks.TypeSubscribe, `{"touser":"OPENID","template_id":"shipping","page":"pages/order/order?id=NUMBER","data":{"thing1":{"value":"订单已发货"},"character_string2":{"value":"NONUMBER"}}}`},
		{tasks.TypeTemplate, `{"touser":"OPENID","template_id":"` + HeldTemplate + `","data":{"thing1":{"value":"付款成功"},"character_string2":{"value":"NONUMBER"}}}`},
		{tasks.TypeCustom, `{"touser":"OPENID","msgtype":"text","text":{"content":"您的问题 NUMBER 已回复"}}`},
		{tasks.TypeScheme, `{"jump_wxa":{"path":"pages/index/index","query":"id=NUMBER"},"is_expire":true,"expire_type":1,"expire_interval":30}`},
		{tasks.TypeTextCheck, `{"openid":"OPENID","scene":1,"version":2,"content":"留言 NUMBER"}`},
		{tasks.TypeURLLink, `{"path":"pages/index/index","query":"id=NUMBER","is_expire":true,"expire_type":1,"expire_interval":30}`},
		{tasks.TypeUnlimitedCode, `{"scene":"id=NUMBER","page":"pages/index/index","width":430}`},
	}
}

// openids returns the receivers, which Task uses in turn. The part before a dash makes the
// sandbox return a fault. A transient fault occurs once for each openid, so these openids have
// a number and are new each time.
func openids() []string {
	return []string{
		"oSample1", "oSample2", "oSample3", "busy-oSampleNUMBER", "oSample4", "unsubscribed-oSample5", "oSample6",
		"slow-oSample7", "oSample8", "badopenid-oSample9", "lost-oSampleNUMBER", "oSample10", "concurrent-oSampleNUMBER",
	}
}

// Task returns the nth sample task, which is valid.
func Task(n int) tasks.Envelope {
	kinds, people, apps := samples(), openids(), Apps()
	kind := kinds[n%len(kinds)]
	body := strings.ReplaceAll(kind.body, "OPENID", people[n%len(people)])
	body = strings.ReplaceAll(body, "NUMBER", strconv.Itoa(n))
	e := tasks.Envelope{
		Type: kind.typ, App: apps[n/len(kinds)%len(apps)], Batch: "sample",
		Body: json.RawMessage(body),
	}
	switch {
	case n%11 == 3:
		e.Priority = tasks.Bulk
	case n%17 == 5:
		e.ProcessAt = time.Now().Add(20 * time.Second)
	}
	return e
}
