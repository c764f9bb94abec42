package sandbox

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// The events that the sandbox pushes.
// Sources: https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/subscribe-message.html,
// https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.html and
// https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_mediacheckasync.html
const (
	eventTemplateSent  = "TEMPLATESENDJOBFINISH"
	eventSubscribeSent = "subscribe_msg_sent_event"
	eventPopup         = "subscribe_msg_popup_event"
	eventChange        = "subscribe_msg_change_event"
	eventMediaCheck    = "wxa_media_check"
)

// receiptSuccess is the status of a message that arrived.
const receiptSuccess = "success"

// event is something that WeChat tells an app by a push.
type event struct {
	name     string
	app      string
	openid   string
	template string // where there is one
	msgID    string
	traceID  string
	at       time.Time
	receipt  bool // tells a status
	xmlOnly  bool // a push to official accounts, whatever the format of the callback
	intTime  bool // JSON has the CreateTime as a number
	// members returns what follows the Event; status is that of a receipt.
	members func(status string) []pushwire.Element
	// envelope and body replace the common members, for pushes to a service provider; the envelope's value is its app id.
	envelope pushwire.Element
	body     []pushwire.Element
}

// planEvent returns the pushes of an event, numbered and logged; none if its app has no callback. The caller holds s.mu.
func (s *Server) planEvent(e event) []*queuedPush {
	if !s.pushes.hasTarget(e.app) {
		return nil
	}
	faults := s.faultsOfPush(e)
	q := &queuedPush{
		record: Push{
			At: e.at, App: e.app, Event: e.name, OpenID: e.openid, Template: e.template, MsgID: e.msgID, TraceID: e.traceID,
			Faults: faults.names,
		},
		envelope: e.envelope, body: e.body, xmlOnly: e.xmlOnly, forged: faults.forged, early: faults.early,
		wait: s.opts.Pushes.Delay + faults.late,
	}
	if e.receipt {
		q.record.Receipt = receiptSuccess
		if faults.status != "" {
			q.record.Receipt = faults.status
		}
	}
	if e.body == nil {
		q.envelope, q.body = e.common(q.record.Receipt)
	}
	if faults.lost {
		q.record.Status = PushLost
	}
	pushes := []*queuedPush{q}
	if faults.twice && !faults.lost {
		second := *q
		second.record.Copy, second.early = 2, false
		pushes = append(pushes, &second)
	}
	return slices.DeleteFunc(pushes, func(q *queuedPush) bool { return !s.planPush(q) })
}

// planPush sets the time and order of one push, and logs it.
func (s *Server) planPush(q *queuedPush) bool {
	waits := s.pushes.plan(q)
	q.order = q.record.Seq
	if s.opts.Pushes.Shuffle > 0 {
		q.order = madeup.Scramble(s.opts.Seed ^ q.record.Seq)
	}
	if jitter := s.opts.Pushes.Jitter; jitter > 0 {
		q.wait += time.Duration(s.chance(q.record.Seq, 0) * float64(jitter))
	}
	return waits
}

// common returns the members that all events of a person have, and its own.
func (e event) common(status string) (envelope pushwire.Element, body []pushwire.Element) {
	created := strconv.FormatInt(e.at.Unix(), 10)
	envelope = pushwire.Element{Name: "ToUserName", Value: pushwire.Text(originalID(e.app))}
	body = []pushwire.Element{envelope, {Name: "FromUserName", Value: pushwire.Text(e.openid)}, {Name: "CreateTime", Value: pushwire.Digits(created)}}
	if e.intTime {
		body[2].Value = pushwire.Int(e.at.Unix())
	}
	body = append(body, pushwire.Element{Name: "MsgType", Value: pushwire.Text("event")}, pushwire.Element{Name: "Event", Value: pushwire.Text(e.name)})
	return envelope, append(body, e.members(status)...)
}

// originalID returns the original id (原始 ID) of an app.
func originalID(app string) string {
	return "gh_" + strconv.FormatUint(madeup.Number("original id", app)>>16|1<<47, 16)
}

// pushEvent pushes an event that no call waits for.
func (s *Server) pushEvent(e event) {
	s.mu.Lock()
	pushes := s.planEvent(e)
	s.mu.Unlock()
	s.pushes.enqueue(pushes...)
}

// pushEarly sends those pushes of a call that have the fault earlyreceipt, before its answer.
func (s *Server) pushEarly(x *exchange) {
	for _, q := range x.pushes {
		if q.early {
			s.pushes.sendNow(q)
		}
	}
	x.pushes = slices.DeleteFunc(x.pushes, func(q *queuedPush) bool { return q.early })
}

// pushAfter enqueues the other pushes of a call.
func (s *Server) pushAfter(x *exchange) {
	s.pushes.enqueue(x.pushes...)
	x.pushes = nil
}

// templateSent is the receipt of a template message. Its id is named MsgID, unlike the MsgId of messages.
func templateSent(x *exchange) event {
	msgID := strconv.FormatInt(x.msgID, 10)
	return event{
		name: eventTemplateSent, msgID: msgID, receipt: true, xmlOnly: true,
		members: func(status string) []pushwire.Element {
			return []pushwire.Element{{Name: "MsgID", Value: pushwire.Digits(msgID)}, {Name: "Status", Value: pushwire.Text(status)}}
		},
	}
}

// subscribeSent is the receipt of a subscribe message. WeChat documents the ErrorCode 0 alone; that of a failure is made up.
func subscribeSent(x *exchange) event {
	msgID, template := strconv.FormatInt(x.msgID, 10), x.template()
	return event{
		name: eventSubscribeSent, msgID: msgID, receipt: true, xmlOnly: x.row.path == pathBizSubscribe,
		members: func(status string) []pushwire.Element {
			code := "0"
			if status != receiptSuccess {
				code = "20001"
			}
			return nested("SubscribeMsgSentEvent", pushwire.List{{
				{Name: "TemplateId", Value: pushwire.Text(template)},
				{Name: "MsgID", Value: pushwire.Digits(msgID)},
				{Name: "ErrorCode", Value: pushwire.Digits(code)},
				{Name: "ErrorStatus", Value: pushwire.Text(status)},
			}})
		},
	}
}

// nested returns the List of a subscribe message's event, which XML has inside a member with the event's name.
func nested(name string, list pushwire.List) []pushwire.Element {
	return []pushwire.Element{{Name: name, Value: pushwire.Flat{{Name: "List", Value: list}}}}
}

// mediaChecked is the verdict on an image or sound. A URL whose host is under .invalid cannot be downloaded: -1008.
func mediaChecked(x *exchange) event {
	trace, found, code := traceID(x), checkVerdict(x), int64(0)
	if q, _ := x.req.(*mediaRequest); unreachable(q.MediaURL) {
		code = -1008
	}
	return event{
		name: eventMediaCheck, traceID: trace, intTime: true,
		members: func(string) []pushwire.Element {
			result := []pushwire.Element{{Name: "suggest", Value: pushwire.Text(found.Suggest)}, {Name: "label", Value: pushwire.Int(found.Label)}}
			members := []pushwire.Element{
				{Name: "appid", Value: pushwire.Text(x.app.id)},
				{Name: "trace_id", Value: pushwire.Text(trace)},
				{Name: "version", Value: pushwire.Int(2)},
			}
			if code == 0 {
				one := append(pushwire.Object{{Name: "strategy", Value: pushwire.Text("content_model")}, {Name: "errcode", Value: pushwire.Int(0)}}, result...)
				members = append(members, pushwire.Element{Name: "detail", Value: pushwire.Array{append(one, pushwire.Element{Name: "prob", Value: pushwire.Int(90)})}})
			}
			members = append(members, pushwire.Element{Name: "errcode", Value: pushwire.Int(code)})
			if code != 0 {
				return append(members, pushwire.Element{Name: "errmsg", Value: pushwire.Text("download failed")})
			}
			return append(members, pushwire.Element{Name: "errmsg", Value: pushwire.Text("ok")}, pushwire.Element{Name: "result", Value: pushwire.Object(result)})
		},
	}
}

// unreachable reports whether the host of a URL is under the top-level domain that never exists.
func unreachable(address string) bool {
	return strings.HasSuffix(hostOf(address), ".invalid")
}
