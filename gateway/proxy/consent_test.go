package proxy_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
	"github.com/wxcourier/wxcourier/tasks"
)

// consentShop is a shop whose app has a mode of consent, and a short wait. The template of messageTo is a
// one-time one.
func consentShop(t *testing.T, rdb redis.UniversalClient, mode consent.Mode) (*shop, *consent.Store) {
	t.Helper()
	s := newShop(t, rdb)
	s.wait = 100 * time.Millisecond
	s.apps[app] = proxy.App{Consent: mode}
	registry, err := json.Marshal(templates.Registry{Templates: []templates.Template{{ID: template, Source: templates.Subscribe, Kind: templates.OneTime}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.Set(t.Context(), templates.Key(app), registry, 0).Err(); err != nil {
		t.Fatal(err)
	}
	return s, consent.NewStore(rdb, nil)
}

// template is the template of messageTo.
const template = "T1"

func choose(t *testing.T, store *consent.Store, person string, choice consent.Choice) {
	t.Helper()
	err := store.Grant(t.Context(), app, consent.News{OpenID: person, Template: template, Choice: choice, At: time.Now().Add(-time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
}

// why returns what is known of a person.
func why(t *testing.T, store *consent.Store, person string) consent.Why {
	t.Helper()
	e, err := store.Get(t.Context(), app, person, template)
	if err != nil {
		t.Fatal(err)
	}
	return e.Answer(consent.OneTime, time.Now()).Why
}

// TestConsentIsEnforced: a message takes a credit, a failure gives it back, and 43101 empties the count.
// Without a credit there is no call, and the answer is WeChat's code; the outcome of a message with an
// Idempotency-Key is recorded, and comes again.
func TestConsentIsEnforced(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, store := consentShop(t, rdb, consent.Enforce)
		g := s.start()
		ticket := g.ticket()
		for _, person := range []string{"oA", "busy-oB", "unsubscribed-oC"} {
			choose(t, store, person, consent.Accepted)
		}
		if a := g.post(ticket, sendPath, messageTo("oA")); a.ErrCode != 0 || why(t, store, "oA") != consent.WhyNoCredit {
			t.Errorf("a message: %v; %s", a, why(t, store, "oA"))
		}
		wantRefused(t, "the next one", g.post(ticket, sendPath, messageTo("oA")), 43101)
		if a := g.post(ticket, sendPath, messageTo("busy-oB")); a.ErrCode != -1 || why(t, store, "busy-oB") != consent.WhyCredits {
			t.Errorf("a busy WeChat: %v; %s", a, why(t, store, "busy-oB"))
		}
		if a := g.post(ticket, sendPath, messageTo("unsubscribed-oC")); a.ErrCode != 43101 || why(t, store, "unsubscribed-oC") != consent.WhyRefused {
			t.Errorf("WeChat's refusal: %v; %s", a, why(t, store, "unsubscribed-oC"))
		}
		if n := len(s.seen.of(sendPath)); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
		for range 2 {
			wantRefused(t, "with an Idempotency-Key", g.post(ticket, sendPath, messageTo("oA"), "Idempotency-Key", "order-1"), 43101)
		}
		r, err := tasks.NewClient(rdb).Result(t.Context(), app, "order-1")
		if err != nil || r.Outcome != tasks.OutcomeRefused || r.Reason != consent.ReasonNoConsent || r.ErrCode != 0 || r.Attempts != 0 {
			t.Errorf("%+v, %v", r, err)
		}
		if got := s.counted(g); got != "refused 0 ×1" {
			t.Errorf("counted over time: %s", got)
		}
		if n := len(s.seen.of(sendPath)); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
	})
}

// TestConsentIsObserved: no message is stopped, and none waits; what enforce would have saved is counted.
func TestConsentIsObserved(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, store := consentShop(t, rdb, consent.Observe)
		g := s.start()
		choose(t, store, "unsubscribed-oA", consent.Declined)
		if a := g.post(g.ticket(), sendPath, messageTo("unsubscribed-oA"), "Idempotency-Key", "order-1"); a.ErrCode != 43101 || len(s.seen.of(sendPath)) != 1 {
			t.Errorf("%v, %d calls", a, len(s.seen.of(sendPath)))
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		g.proxy.Run(ended) // writes the counts
		got, err := consent.Summaries(t.Context(), rdb, []string{app}, time.Now())
		if err != nil || got[app].WouldSave != 1 || got[app].Stopped != 0 {
			t.Errorf("%+v, %v", got[app], err)
		}
	})
}

// TestConsentWaitsForThePush: a message right after the acceptance waits for its push.
func TestConsentWaitsForThePush(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, store := consentShop(t, rdb, consent.Enforce)
		s.wait = 30 * time.Second
		g := s.start()
		choose(t, store, "oA", consent.Declined)
		ticket := g.ticket()
		answered := make(chan reply)
		go func() { answered <- g.post(ticket, sendPath, messageTo("oA")) }()
		redistest.Until(t, 20*time.Second, "the message waits", func() bool {
			n, err := testutil.GatherAndCount(g.registry, "wxcourier_consent_checks_total")
			return n == 1 && err == nil
		})
		choose(t, store, "oA", consent.Accepted)
		if a := <-answered; a.ErrCode != 0 {
			t.Errorf("%v", a)
		}
	})
}

// TestConsentOffCostsNothing: without it, and for messages that need none, Redis is not asked.
func TestConsentOffCostsNothing(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		s, _ := consentShop(t, rdb, consent.Off)
		g := s.start()
		ticket := g.ticket()
		g.post(ticket, sendPath, messageTo("oA"))
		s.apps[app] = proxy.App{Consent: consent.Enforce}
		g.post(ticket, "/cgi-bin/message/custom/send", `{"touser":"oA","msgtype":"text","text":{"content":"x"}}`)
		g.post(ticket, "/cgi-bin/message/template/send", messageTo("oA"))
		g.post(ticket, schemePath, schemeBody)
		if keys := rdb.Keys(t.Context(), "*consent*").Val(); len(keys) > 0 {
			t.Errorf("keys of consents: %v", keys)
		}
		if n := len(s.seen.of(sendPath)); n != 1 {
			t.Errorf("%d calls", n)
		}
	})
}
