package pushes_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/pushes"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

func TestChoices(t *testing.T) {
	const app = "wx0123456789abcdef"
	now := time.Now().Truncate(time.Second)
	choice := func(event, status string, ago time.Duration) callback.Push {
		return callback.Push{
			From: "oPerson", Created: now.Add(-ago), Type: "event", Event: event,
			Choices: []callback.Choice{{TemplateID: "T1", Status: status}, {TemplateID: "T2", Status: "reject"}},
		}
	}
	accepted := choice(callback.EventPopup, "accept", time.Minute)
	for _, c := range []struct {
		name    string
		pushes  []callback.Push
		may     consent.May
		why     consent.Why
		credits int
	}{
		{"an acceptance, twice", []callback.Push{accepted, accepted}, consent.Yes, consent.WhyCredits, 1},
		{"two, with a sound", []callback.Push{accepted, choice(callback.EventPopup, "acceptWithAudio", 0)}, consent.Yes, consent.WhyCredits, 2},
		{"a refused dialogue", []callback.Push{choice(callback.EventPopup, "reject", 0)}, consent.No, consent.WhyDeclined, 0},
		{"turned off, overtaking", []callback.Push{choice(callback.EventChange, "reject", 0), accepted}, consent.No, consent.WhyTurnedOff, 0},
		{"turned on is no credit", []callback.Push{choice(callback.EventChange, "accept", 0)}, consent.Unknown, consent.WhyNoNews, 0},
		{"a banned template", []callback.Push{choice(callback.EventPopup, "ban", 0)}, consent.Unknown, consent.WhyNoNews, 0},
		{"another event", []callback.Push{choice(callback.EventSubscribeSent, "accept", 0)}, consent.Unknown, consent.WhyNoNews, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
				store := consent.NewStore(rdb, nil)
				for range 2 { // the process died before it noted that they were handled
					if err := pushes.NewChoices(store, func(string) bool { return true }).Handle(t.Context(), app, c.pushes); err != nil {
						t.Fatal(err)
					}
				}
				e, err := store.Get(t.Context(), app, "oPerson", "T1")
				if err != nil {
					t.Fatal(err)
				}
				if a := e.Answer(consent.OneTime, now); a.May != c.may || a.Why != c.why || a.Credits != c.credits {
					t.Errorf("%+v; want %s (%s), %d credits", a, c.may, c.why, c.credits)
				}
			})
		})
	}
	_, rdb := redistest.Mini(t)
	if err := pushes.NewChoices(consent.NewStore(rdb, nil), func(string) bool { return false }).Handle(t.Context(), app, []callback.Push{accepted}); err != nil {
		t.Fatal(err)
	}
	if keys := rdb.Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("an app whose consents are off has %v", keys)
	}
}
