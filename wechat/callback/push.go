package callback

import "time"

// Push is a message or an event that WeChat pushed, without the text of a message. Do not log it: it has
// openids, and that of a service provider has secrets.
type Push struct {
	// To is the original id of the account (gh_…), or "" of a push to a service provider.
	To string `json:"to,omitempty"`
	// From is the openid of the person, or WeChat's own name for the sender of an event.
	From string `json:"from,omitempty"`
	// Created is when WeChat made the push, in whole seconds.
	Created time.Time `json:"created,omitzero"`
	// Type is the MsgType: "event", "text" …; "" of a push to a service provider.
	Type string `json:"type,omitempty"`
	// Event is the Event as WeChat writes it: "TEMPLATESENDJOBFINISH", "subscribe_msg_sent_event" …; of a
	// push to a service provider it is the InfoType.
	Event string `json:"event,omitempty"`
	// MsgID is the id of a message (MsgId) or of an event that has one (MsgID), in digits.
	MsgID string `json:"msgid,omitempty"`

	// Receipts are those of TEMPLATESENDJOBFINISH (one) and subscribe_msg_sent_event.
	Receipts []Receipt `json:"receipts,omitempty"`
	// Choices are those of subscribe_msg_popup_event and subscribe_msg_change_event.
	Choices []Choice `json:"choices,omitempty"`
	// MediaCheck is the answer of wxa_media_check.
	MediaCheck *MediaCheck `json:"media_check,omitempty"`
	// Provider is what a push to a service provider (第三方平台) says.
	Provider *Provider `json:"provider,omitempty"`
}

// The names of the events that wxcourier handles.
const (
	EventTemplateSent  = "TEMPLATESENDJOBFINISH"
	EventSubscribeSent = "subscribe_msg_sent_event"
	EventPopup         = "subscribe_msg_popup_event"
	EventChange        = "subscribe_msg_change_event"
	EventMediaCheck    = "wxa_media_check"
)

// Delivery is what became of a message that WeChat had accepted.
type Delivery string

// The values of Delivery.
const (
	Delivered Delivery = "delivered"
	Blocked   Delivery = "blocked" // by the person
	Failed    Delivery = "failed"
)

// Receipt says what became of one message.
type Receipt struct {
	MsgID      string   `json:"msgid"`              // as in the answer to the send, in digits
	TemplateID string   `json:"template,omitempty"` // "" of template messages
	Delivery   Delivery `json:"delivery"`
	Status     string   `json:"status"` // WeChat's text, such as "success" or "failed:user block"; with a non-zero ErrorCode "<code> <text>"
}

// Choice is what a person chose for one template.
type Choice struct {
	TemplateID string `json:"template"`
	Status     string `json:"status"`          // "accept", "reject", or another text of WeChat's
	Scene      string `json:"scene,omitempty"` // PopupScene, in digits
}

// MediaCheck is the verdict on one image or sound.
type MediaCheck struct {
	TraceID string `json:"trace_id"`
	ErrCode int    `json:"errcode,omitempty"` // 0: Suggest and Label are valid; -1008: WeChat could not download it
	Suggest string `json:"suggest,omitempty"` // "pass", "review" or "risky"
	Label   string `json:"label,omitempty"`   // in digits
}

// Provider is what a push to a service provider says.
type Provider struct {
	App        string    `json:"app"`                  // of the service provider (AppId)
	Ticket     string    `json:"ticket,omitempty"`     // ComponentVerifyTicket: a secret
	Authorizer string    `json:"authorizer,omitempty"` // AuthorizerAppid
	Code       string    `json:"code,omitempty"`       // AuthorizationCode: a secret
	Expires    time.Time `json:"expires,omitzero"`     // of Code
}
