package pushes

import (
	"context"
	"strings"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// Choices notes what persons chose: subscribe_msg_popup_event and subscribe_msg_change_event.
type Choices struct {
	store *consent.Store
	on    func(app string) bool // whether the consents of an app are counted
}

// NewChoices creates a Choices. on says for which apps consents are counted; pushes to others are
// ignored. It does no I/O.
func NewChoices(store *consent.Store, on func(app string) bool) *Choices {
	return &Choices{store: store, on: on}
}

// Handle implements Handler.
func (c *Choices) Handle(ctx context.Context, app string, pushes []callback.Push) error {
	if !c.on(app) {
		return nil
	}
	var news []consent.News
	for _, p := range pushes {
		for _, choice := range p.Choices {
			if n, ok := newsOf(p, choice); ok {
				news = append(news, n)
			}
		}
	}
	return c.store.Grant(ctx, app, news...)
}

// newsOf returns the news in a choice; ok is false if the choice is neither accept nor reject, such as a template that WeChat
// has banned.
func newsOf(p callback.Push, choice callback.Choice) (n consent.News, ok bool) {
	n = consent.News{OpenID: p.From, Template: choice.TemplateID, At: p.Created}
	if n.OpenID == "" || n.Template == "" {
		return n, false
	}
	accepted, changed := strings.HasPrefix(choice.Status, "accept"), p.Event == callback.EventChange // also acceptWithAudio
	switch {
	case !changed && p.Event != callback.EventPopup:
		return n, false
	case accepted && changed:
		n.Choice = consent.TurnedOn
	case accepted:
		n.Choice = consent.Accepted
	case choice.Status != "reject":
		return n, false
	case changed:
		n.Choice = consent.TurnedOff
	default:
		n.Choice = consent.Declined
	}
	return n, true
}
