package callback

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxName is the maximum length of an id, a name or a status in a push. WeChat's own are shorter.
const maxName = 512

// Parse parses the decrypted body of a push. An error is ErrFormat.
func Parse(body []byte) (Push, error) {
	format, err := formatOf(body)
	if err != nil {
		return Push{}, err
	}
	root, err := parseNode(format, body)
	if err != nil {
		return Push{}, err
	}
	p := Push{
		To: root.field("ToUserName"), From: root.field("FromUserName"), Created: unix(root.field("CreateTime")),
		Type: root.field("MsgType"), Event: root.field("Event"), MsgID: digits(root.field("MsgID")),
	}
	info := root.field("InfoType")
	switch {
	case p.Type == "" && info != "":
		p.Event, p.Provider = info, provider(root, p.Created)
	case p.Type == "":
		return Push{}, fmt.Errorf("%w: it has neither MsgType nor InfoType", ErrFormat)
	case p.Type == "event":
		p.event(root)
	}
	for _, text := range []string{p.To, p.From, p.Type, p.Event, p.MsgID} {
		if len(text) > maxName {
			return Push{}, fmt.Errorf("%w: a name has more than %d bytes", ErrFormat, maxName)
		}
	}
	return p, nil
}

// event reads what an event says.
func (p *Push) event(root *node) {
	switch p.Event {
	case EventTemplateSent:
		if p.MsgID != "" {
			status := short(root.field("Status"))
			p.Receipts = []Receipt{{MsgID: p.MsgID, Delivery: deliveryOf(status), Status: status}}
		}
	case EventSubscribeSent:
		for _, n := range entries(root, "SubscribeMsgSentEvent", "MsgID") {
			p.addReceipt(n)
		}
		if len(p.Receipts) > 0 && p.MsgID == "" {
			p.MsgID = p.Receipts[0].MsgID
		}
	case EventPopup, EventChange:
		wrapper := map[string]string{EventPopup: "SubscribeMsgPopupEvent", EventChange: "SubscribeMsgChangeEvent"}[p.Event]
		for _, n := range entries(root, wrapper, "TemplateId") {
			p.Choices = append(p.Choices, Choice{
				TemplateID: short(n.field("TemplateId")), Status: short(n.field("SubscribeStatusString")), Scene: digits(n.field("PopupScene")),
			})
		}
	case EventMediaCheck:
		p.MediaCheck = mediaCheck(root)
	}
}

// entries returns the entries of a list that has a field. WeChat's JSON has the list at the top, its XML
// in an element of its own; one entry comes as an object, several as an array or as repeated elements.
func entries(root *node, wrapper, field string) []*node {
	var all []*node
	for _, parent := range []*node{root, root.child(wrapper)} {
		for _, list := range parent.named("List") {
			if list.field(field) != "" {
				all = append(all, list)
				continue
			}
			for _, item := range list.children {
				if item.field(field) != "" {
					all = append(all, item)
				}
			}
		}
	}
	return all
}

// addReceipt adds an entry of subscribe_msg_sent_event, unless it says nothing.
func (p *Push) addReceipt(n *node) {
	r := Receipt{MsgID: digits(n.field("MsgID")), TemplateID: short(n.field("TemplateId")), Status: short(n.field("ErrorStatus"))}
	code := n.field("ErrorCode")
	switch {
	case r.MsgID == "" || code == "" && r.Status == "":
		return
	case code == "" || code == "0":
		if r.Status == "" {
			r.Status = "success"
		}
		r.Delivery = deliveryOf(r.Status)
	default:
		r.Delivery = Failed
		if strings.Contains(r.Status, "user block") {
			r.Delivery = Blocked
		}
		r.Status = strings.TrimSpace(short(code) + " " + r.Status)
	}
	p.Receipts = append(p.Receipts, r)
}

// deliveryOf returns what a status means: "success", "failed:user block", "failed: system failed" …
func deliveryOf(status string) Delivery {
	reason, failed := strings.CutPrefix(strings.ToLower(status), "failed")
	reason = strings.TrimLeft(reason, ": ")
	switch {
	case strings.EqualFold(status, "success"):
		return Delivered
	case failed && reason == "user block":
		return Blocked
	}
	return Failed
}

func mediaCheck(root *node) *MediaCheck {
	m := &MediaCheck{TraceID: short(root.field("trace_id"))}
	if text := root.field("errcode"); text != "" {
		code, err := strconv.Atoi(text)
		if err != nil {
			return nil
		}
		m.ErrCode = code
	}
	if result := root.child("result"); result != nil {
		m.Suggest, m.Label = short(result.field("suggest")), digits(result.field("label"))
	}
	if m.TraceID == "" || m.ErrCode == 0 && m.Suggest == "" { // such as the answer to a check of version 1
		return nil
	}
	return m
}

func provider(root *node, created time.Time) *Provider {
	p := &Provider{
		App: short(root.field("AppId")), Ticket: short(root.field("ComponentVerifyTicket")),
		Authorizer: short(root.field("AuthorizerAppid")), Code: short(root.field("AuthorizationCode")),
	}
	const longest = 30 * 24 * 3600
	if seconds, err := strconv.ParseInt(root.field("AuthorizationCodeExpiredTime"), 10, 64); err == nil && seconds > 0 {
		if p.Expires = time.Unix(seconds, 0).UTC(); seconds < longest { // a duration, not a time
			p.Expires = created.Add(time.Duration(seconds) * time.Second)
		}
	}
	return p
}

// unix returns a time in seconds since 1970, the zero time if the text is not one.
func unix(text string) time.Time {
	const most = 1 << 36 // the year 4147
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds <= 0 || seconds > most {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// digits returns a text that consists of digits, "" for others.
func digits(text string) string {
	if strings.Trim(text, "0123456789") != "" || len(text) > maxName {
		return ""
	}
	return text
}

// short cuts a text that is longer than any of WeChat's.
func short(text string) string { return strings.ToValidUTF8(text[:min(len(text), maxName)], "") }

// Handled reports whether a push has what this package reads beyond its head: receipts, choices, the
// answer of a media check, or a message to a service provider.
func (p Push) Handled() bool {
	return len(p.Receipts) > 0 || len(p.Choices) > 0 || p.MediaCheck != nil || p.Provider != nil
}

// Identity returns a text that repetitions of a push have in common, and no other push of the same app:
// 22 characters that say nothing about the person. body is the decrypted body.
//
// WeChat advises FromUserName and CreateTime for events, which two receipts of one person in one second
// also share; so receipts are told apart by their msgids, messages by theirs, a media check by its
// trace_id, and all others by sender, time, event and body.
func (p Push) Identity(body []byte) string {
	parts := []string{p.Type, p.Event}
	switch ids := p.receiptIDs(); {
	case len(ids) > 0:
		parts = append(parts, ids...)
	case p.MediaCheck != nil:
		parts = append(parts, p.MediaCheck.TraceID)
	case p.Type != "event" && p.MsgID != "" && p.MsgID != "0":
		parts = append(parts, p.MsgID)
	default:
		sum := sha256.Sum256(body)
		parts = append(parts, p.From, strconv.FormatInt(p.Created.Unix(), 10), string(sum[:]))
	}
	var text []byte
	for _, part := range parts {
		text = strconv.AppendQuote(text, part)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// receiptIDs returns msgid and template of all receipts, none if a msgid is not one.
func (p Push) receiptIDs() []string {
	var all []string
	for _, r := range p.Receipts {
		if r.MsgID == "0" { // seen for template messages with a client_msg_id
			return nil
		}
		all = append(all, r.MsgID+" "+r.TemplateID)
	}
	slices.Sort(all)
	return all
}
