package consent_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

const (
	app      = "wx0123456789abcdef"
	openid   = "oPerson"
	template = "TQzcQhA8M_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
	hold     = 45 * time.Second
)

// clock is a clock that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time          { return c.at }
func (c *clock) advance(d time.Duration) { c.at = c.at.Add(d) }

// fixture is a Store and one person.
type fixture struct {
	*testing.T
	*clock
	rdb   redis.UniversalClient
	store *consent.Store
	runs  int
}

func newFixture(t *testing.T, rdb redis.UniversalClient) *fixture {
	c := &clock{at: time.Unix(1_790_000_000, 0)}
	return &fixture{T: t, clock: c, rdb: rdb, store: consent.NewStore(rdb, c.now)}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// grant applies a choice that was made some time ago.
func (f *fixture) grant(choice consent.Choice, ago time.Duration) {
	f.Helper()
	f.must(f.store.Grant(f.Context(), app, consent.News{OpenID: openid, Template: template, Choice: choice, At: f.now().Add(-ago)}))
}

func (f *fixture) report(id string) {
	f.Helper()
	f.must(f.store.Grant(f.Context(), app, consent.News{OpenID: openid, Template: template, Choice: consent.Accepted, Reported: true, ID: id}))
}

// send returns a new message.
func (f *fixture) send() consent.Send {
	f.runs++
	return consent.Send{App: app, OpenID: openid, Template: template, Run: "replica-" + strings.Repeat("i", f.runs), Began: f.now()}
}

// reserve reserves a credit for a message.
func (f *fixture) reserve(m consent.Send, want bool) {
	f.Helper()
	_, held, err := f.store.Reserve(f.Context(), m, hold)
	f.must(err)
	if held != want {
		f.Fatalf("reserved: %v; want %v", held, want)
	}
}

// expect checks the answer about the person.
func (f *fixture) expect(kind consent.Kind, may consent.May, why consent.Why, credits int) {
	f.Helper()
	e, err := f.store.Get(context.WithoutCancel(f.Context()), app, openid, template)
	f.must(err)
	if a := e.Answer(kind, f.now()); a.May != may || a.Why != why || a.Credits != credits {
		f.Fatalf("may send: %s (%s), %d credits; want %s (%s), %d\n%s", a.May, a.Why, a.Credits, may, why, credits, f.raw())
	}
}

// raw returns the entry as Redis has it.
func (f *fixture) raw() string {
	keys, _ := f.rdb.Keys(f.Context(), "wxcourier:{"+app+"}:consent:*").Result()
	if len(keys) == 0 {
		return "no entry"
	}
	return f.rdb.HGet(f.Context(), keys[0], template).Val()
}

func each(t *testing.T, run func(f *fixture)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { run(newFixture(t, rdb)) })
}

func TestCreditsAreCounted(t *testing.T) {
	each(t, func(f *fixture) {
		f.expect(consent.OneTime, consent.Unknown, consent.WhyNoNews, 0)
		f.grant(consent.Accepted, time.Second)
		f.grant(consent.Accepted, time.Second) // the same push again
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		f.advance(time.Minute)
		f.grant(consent.Accepted, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 2)

		for _, want := range []int{1, 0} {
			m := f.send()
			f.reserve(m, true)
			f.reserve(m, true) // its answer was lost
			f.must(f.store.Commit(f.Context(), m, consent.Reserved))
			f.must(f.store.Commit(f.Context(), m, consent.Reserved))
			if want > 0 {
				f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, want)
			}
		}
		f.expect(consent.OneTime, consent.No, consent.WhyNoCredit, 0)
		f.expect(consent.KindUnknown, consent.Unknown, consent.WhyKind, 0)
		f.expect(consent.LongTerm, consent.Yes, consent.WhyLongTerm, 0)
		f.reserve(f.send(), false)
		f.advance(100 * 24 * time.Hour)
		f.expect(consent.OneTime, consent.No, consent.WhyNoCredit, 0) // counted: final
	})
}

func TestReservations(t *testing.T) {
	each(t, func(f *fixture) {
		f.grant(consent.Accepted, 0)
		first, second := f.send(), f.send()
		f.reserve(first, true)
		f.reserve(second, false)
		f.expect(consent.OneTime, consent.Unknown, consent.WhySending, 0)
		f.must(f.store.Release(f.Context(), first))
		f.must(f.store.Release(f.Context(), first))
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)

		f.reserve(second, true) // its worker dies
		f.advance(hold)
		f.expect(consent.OneTime, consent.Unknown, consent.WhyUnanswered, 1)
		third := f.send()
		f.reserve(third, true)
		f.must(f.store.Zero(f.Context(), third))
		f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
		f.must(f.store.Commit(f.Context(), second, consent.Reserved)) // far too late
		f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
	})
}

func TestRefusals(t *testing.T) {
	const day = 24 * time.Hour
	each(t, func(f *fixture) {
		refused := func() {
			f.Helper()
			m := f.send()
			f.must(f.store.Zero(f.Context(), m))
			f.must(f.store.Zero(f.Context(), m)) // again, after a broken connection
			f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
			f.expect(consent.LongTerm, consent.No, consent.WhyRefused, 0)
		}
		for _, wait := range []time.Duration{day, 7 * day, 30 * day, 30 * day} {
			refused()
			f.advance(wait - time.Minute)
			f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
			f.advance(2 * time.Minute)
			f.expect(consent.OneTime, consent.Unknown, consent.WhyRecheck, 0)
		}
		refused()
		f.grant(consent.Accepted, time.Minute) // before the call: spent
		f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
		f.advance(time.Minute)
		f.grant(consent.Accepted, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
	})
}

func TestAcceptanceDuringARefusedCall(t *testing.T) {
	each(t, func(f *fixture) {
		m := f.send()
		f.advance(2 * time.Second)
		f.grant(consent.Accepted, 0)
		f.must(f.store.Zero(f.Context(), m))
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		f.must(f.store.Zero(f.Context(), m))
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
	})
}

// A mass send may meet 43101 where credits are left: they come back when a later call works.
func TestCreditsAfterABurstOfRefusals(t *testing.T) {
	each(t, func(f *fixture) {
		for range 3 {
			f.grant(consent.Accepted, 0)
			f.advance(time.Hour)
		}
		m := f.send()
		f.reserve(m, true)
		f.must(f.store.Zero(f.Context(), m))
		f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
		f.advance(25 * time.Hour)
		f.expect(consent.OneTime, consent.Unknown, consent.WhyRecheck, 0)
		m = f.send()
		f.reserve(m, false)
		f.must(f.store.Commit(f.Context(), m, consent.NoCredit))
		f.must(f.store.Commit(f.Context(), m, consent.NoCredit))
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 2)
	})
}

// A person with credits from before the ledger is not refused again.
func TestUncountedCredits(t *testing.T) {
	each(t, func(f *fixture) {
		f.grant(consent.Declined, 0)
		f.expect(consent.OneTime, consent.No, consent.WhyDeclined, 0)
		f.must(f.store.Commit(f.Context(), f.send(), consent.NoCredit))
		f.expect(consent.OneTime, consent.Unknown, consent.WhyUncounted, 0)
		f.advance(time.Minute)
		f.grant(consent.Accepted, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		m := f.send()
		f.reserve(m, true)
		f.must(f.store.Commit(f.Context(), m, consent.Reserved))
		f.expect(consent.OneTime, consent.Unknown, consent.WhyUncounted, 0)
		f.advance(time.Minute)
		f.must(f.store.Zero(f.Context(), f.send()))
		f.expect(consent.OneTime, consent.No, consent.WhyRefused, 0)
	})
}

func TestSendBeforeItsPush(t *testing.T) {
	each(t, func(f *fixture) {
		early := f.send()
		f.must(f.store.Commit(f.Context(), early, consent.PushAhead))
		f.must(f.store.Commit(f.Context(), early, consent.PushAhead))
		f.expect(consent.OneTime, consent.Unknown, consent.WhyNoNews, 0)
		f.advance(3 * time.Second)
		f.grant(consent.Accepted, 4*time.Second)
		f.grant(consent.Accepted, 4*time.Second)
		f.expect(consent.OneTime, consent.No, consent.WhyNoCredit, 0)
		f.must(f.store.Commit(f.Context(), early, consent.PushAhead)) // its answer was lost
		f.advance(time.Minute)
		f.grant(consent.Accepted, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)

		m := f.send()
		f.reserve(m, true)
		f.must(f.store.Commit(f.Context(), m, consent.Reserved))
		f.advance(time.Minute)
		second := f.send() // its push comes during the call
		f.reserve(second, false)
		f.grant(consent.Accepted, 0)
		f.must(f.store.Commit(f.Context(), second, consent.PushAhead))
		f.must(f.store.Commit(f.Context(), second, consent.PushAhead))
		f.expect(consent.OneTime, consent.No, consent.WhyNoCredit, 0)
	})
}

// A lone marker does not stay.
func TestMarkersExpire(t *testing.T) {
	each(t, func(f *fixture) {
		f.must(f.store.Commit(f.Context(), f.send(), consent.PushAhead))
		keys := f.rdb.Keys(f.Context(), "wxcourier:{"+app+"}:consent:*").Val()
		if len(keys) != 1 {
			f.Fatal(keys)
		}
		if ttl := f.rdb.TTL(f.Context(), keys[0]).Val(); ttl <= 0 || ttl > time.Minute {
			f.Errorf("a marker is kept for %v", ttl)
		}
		f.grant(consent.Accepted, 0)
		if ttl := f.rdb.TTL(f.Context(), keys[0]).Val(); ttl < consent.Keep-time.Minute {
			f.Errorf("an entry is kept for %v", ttl)
		}
	})
}

func TestReportsAndPushesOfOneAcceptance(t *testing.T) {
	each(t, func(f *fixture) {
		f.report("order-1")
		f.report("order-1")
		f.advance(2 * time.Second)
		f.grant(consent.Accepted, 2*time.Second)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		f.grant(consent.Accepted, 2*time.Second)
		f.report("order-1")
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		f.report("order-2")
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 2)
		f.advance(5 * time.Minute)
		f.grant(consent.Accepted, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 3)
		f.report("")
		f.report("") // another one
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 4)
	})
}

func TestTurnedOff(t *testing.T) {
	each(t, func(f *fixture) {
		f.grant(consent.TurnedOff, 0) // overtook the acceptance
		f.expect(consent.OneTime, consent.No, consent.WhyTurnedOff, 0)
		f.grant(consent.Accepted, 10*time.Second)
		f.expect(consent.OneTime, consent.No, consent.WhyTurnedOff, 0)
		f.expect(consent.LongTerm, consent.No, consent.WhyTurnedOff, 0)
		f.reserve(f.send(), false)
		f.advance(25 * time.Hour)
		f.expect(consent.OneTime, consent.Unknown, consent.WhyRecheck, 0)
		f.grant(consent.TurnedOn, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		f.expect(consent.LongTerm, consent.Yes, consent.WhyLongTerm, 0)
		f.advance(time.Minute)
		f.grant(consent.Declined, 0)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1) // the earlier credit stays
		f.expect(consent.LongTerm, consent.No, consent.WhyDeclined, 0)
	})
}

// A reader makes no key of an app of which nothing is known.
func TestReadersWriteNothing(t *testing.T) {
	each(t, func(f *fixture) {
		reader := consent.NewStore(f.rdb, f.now)
		one, err := reader.Get(f.Context(), app, openid, template)
		f.must(err)
		all, err := reader.List(f.Context(), app, openid)
		f.must(err)
		if may := one.Answer(consent.OneTime, f.now()).May; may != consent.Unknown || len(all) != 0 || f.rdb.DBSize(f.Context()).Val() != 0 {
			f.Errorf("%v, %v; keys %v", may, all, f.rdb.Keys(f.Context(), "*").Val())
		}
	})
}

// A report of an earlier acceptance may be repeated as one of now may.
func TestOldReportAgain(t *testing.T) {
	each(t, func(f *fixture) {
		for range 2 {
			f.must(f.store.Grant(f.Context(), app, consent.News{OpenID: openid, Template: template, Choice: consent.Accepted, At: f.now().Add(-2 * time.Hour), Reported: true, ID: "order-1"}))
			f.advance(time.Second)
		}
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
	})
}

// Messages that are turned on again say nothing about credits from before the first push.
func TestTurnedOnWithoutCredits(t *testing.T) {
	each(t, func(f *fixture) {
		f.grant(consent.TurnedOff, 0)
		f.advance(time.Minute)
		f.grant(consent.TurnedOn, 0)
		f.expect(consent.OneTime, consent.Unknown, consent.WhyUncounted, 0)
	})
}

// The keys do not tell the openid, and all processes have the same hashes.
func TestKeysOfPersons(t *testing.T) {
	each(t, func(f *fixture) {
		f.grant(consent.Accepted, 0)
		other := consent.NewStore(f.rdb, f.now)
		found, err := other.List(f.Context(), app, openid)
		f.must(err)
		if len(found) != 1 || found[template].Answer(consent.OneTime, f.now()).Credits != 1 {
			f.Errorf("another process found %v", found)
		}
		for _, key := range f.rdb.Keys(f.Context(), "*").Val() {
			if strings.Contains(key, openid) {
				f.Errorf("a key contains the openid: %s", key)
			}
		}
		// A Redis that lost the key gets it from the processes that know it.
		f.must(f.rdb.Del(f.Context(), "wxcourier:{"+app+"}:consents:key").Err())
		f.advance(2 * time.Minute)
		f.expect(consent.OneTime, consent.Yes, consent.WhyCredits, 1)
		found, err = consent.NewStore(f.rdb, f.now).List(f.Context(), app, openid)
		f.must(err)
		if len(found) != 1 {
			f.Error("a new process has other hashes")
		}
	})
}
