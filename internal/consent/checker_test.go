package consent_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

const typ = "send:subscribe"

// checked is a Checker, a person, and the checks so far.
type checked struct {
	*testing.T
	*consent.Checker
	counts map[consent.Check]int
	runs   int
}

// newChecked returns a Checker to which all templates are one-time ones. The push of an acceptance may
// come within an hour.
func newChecked(t *testing.T, rdb redis.UniversalClient) *checked {
	c := &checked{T: t, counts: make(map[consent.Check]int)}
	log := slog.New(slog.DiscardHandler)
	c.Checker = consent.NewChecker(consent.CheckerDeps{
		Store: consent.NewStore(rdb, nil), Counts: consent.NewRecorder(rdb, log, nil), Log: log,
		KindOf: func(string, string) (int, bool) { return int(consent.OneTime), true },
		Hold:   time.Minute, PushDelay: time.Hour,
		OnCheck: func(_, _ string, check consent.Check) { c.counts[check]++ },
	})
	return c
}

// message returns a new message to the person, which was enqueued some time ago.
func (c *checked) message(mode consent.Mode, ago time.Duration) consent.Message {
	c.runs++
	return consent.Message{
		Send: consent.Send{App: app, OpenID: openid, Template: template, Run: fmt.Sprint("run-", c.runs)},
		Type: typ, Mode: mode, Enqueued: time.Now().Add(-ago),
	}
}

func (c *checked) choose(choice consent.Choice, ago time.Duration) {
	c.Helper()
	if err := c.Store.Grant(c.Context(), app, consent.News{OpenID: openid, Template: template, Choice: choice, At: time.Now().Add(-ago)}); err != nil {
		c.Fatal(err)
	}
}

// expect checks what was counted since the last call.
func (c *checked) expect(want map[consent.Check]int) {
	c.Helper()
	if !maps.Equal(c.counts, want) {
		c.Errorf("counted %v; want %v", c.counts, want)
	}
	clear(c.counts)
}

func eachChecked(t *testing.T, run func(c *checked)) {
	t.Helper()
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) { run(newChecked(t, rdb)) })
}

// Observe sends a message at once whose receiver has no credit, although the push of an acceptance may be
// on its way. Whether enforce would have been wrong is counted when WeChat has answered, and where it
// accepted the message, when the push did not come.
func TestObserveIsJudgedAfterThePush(t *testing.T) {
	eachChecked(t, func(c *checked) {
		c.choose(consent.Declined, time.Minute)
		send := func(reply consent.Reply) {
			k := c.Check(c.Context(), c.message(consent.Observe, 0))
			if k.Decision != consent.Proceed {
				c.Errorf("observe decides %d", k.Decision)
			}
			c.Settle(c.Context(), k, reply)
		}
		send(consent.Refused)
		c.expect(map[consent.Check]int{consent.CheckWaited: 1, consent.CheckWouldStop: 1, consent.CheckRight: 1})
		send(consent.NotTaken)
		c.expect(map[consent.Check]int{consent.CheckWaited: 1})

		send(consent.Taken)
		consent.JudgeForTest(c.Context(), c.Checker, time.Now().Add(59*time.Minute))
		c.expect(map[consent.Check]int{consent.CheckWaited: 1})
		consent.JudgeForTest(c.Context(), c.Checker, time.Now().Add(61*time.Minute))
		consent.JudgeForTest(c.Context(), c.Checker, time.Now().Add(61*time.Minute))
		c.expect(map[consent.Check]int{consent.CheckWouldStop: 1, consent.CheckWrong: 1})
	})
	eachChecked(t, func(c *checked) {
		c.choose(consent.Declined, time.Minute)
		c.Settle(c.Context(), c.Check(c.Context(), c.message(consent.Observe, 0)), consent.Taken)
		c.choose(consent.Accepted, time.Second) // its push: enforce would have waited for it
		consent.JudgeForTest(c.Context(), c.Checker, time.Now().Add(61*time.Minute))
		c.expect(map[consent.Check]int{consent.CheckWaited: 1})
	})
}

// Without a push that may be on its way, observe is judged by the answer, and enforce refuses.
func TestChecksOfAnOlderMessage(t *testing.T) {
	eachChecked(t, func(c *checked) {
		c.choose(consent.Declined, time.Minute)
		k := c.Check(c.Context(), c.message(consent.Enforce, 2*time.Hour))
		c.Settle(c.Context(), k, consent.NotTaken)
		if k.Decision != consent.Refuse {
			c.Errorf("enforce decides %d", k.Decision)
		}
		c.expect(map[consent.Check]int{consent.CheckStopped: 1})
		c.Settle(c.Context(), c.Check(c.Context(), c.message(consent.Observe, 2*time.Hour)), consent.Refused)
		c.expect(map[consent.Check]int{consent.CheckWouldStop: 1, consent.CheckRight: 1})
		c.Settle(c.Context(), c.Check(c.Context(), c.message(consent.Observe, 2*time.Hour)), consent.Taken)
		c.expect(map[consent.Check]int{consent.CheckWouldStop: 1, consent.CheckWrong: 1})
		c.Settle(c.Context(), nil, consent.Taken) // of an app whose consents are not counted
	})
}

// A message that cannot be handed back waits for the push, and is then sent or refused. It counts once.
func TestCheckWithin(t *testing.T) {
	eachChecked(t, func(c *checked) {
		c.choose(consent.Declined, time.Minute)
		if k := c.CheckWithin(c.Context(), c.message(consent.Enforce, 0), time.Millisecond); k.Decision != consent.Refuse {
			c.Errorf("without a push: %d", k.Decision)
		}
		c.expect(map[consent.Check]int{consent.CheckWaited: 1, consent.CheckStopped: 1})
		if k := c.CheckWithin(c.Context(), c.message(consent.Observe, 0), time.Hour); k.Decision != consent.Proceed {
			c.Errorf("observe: %d", k.Decision)
		}
		c.expect(map[consent.Check]int{consent.CheckWaited: 1})
		ended, cancel := context.WithCancel(c.Context())
		cancel()
		if k := c.CheckWithin(ended, c.message(consent.Enforce, 0), time.Hour); k.Decision != consent.Refuse {
			c.Errorf("a client that has gone: %d", k.Decision)
		}
		clear(c.counts)

		looks := 0
		c.KindOf = func(string, string) (int, bool) {
			if looks++; looks == 3 { // the push comes before the third look
				c.choose(consent.Accepted, 0)
			}
			return int(consent.OneTime), true
		}
		k := c.CheckWithin(c.Context(), c.message(consent.Enforce, 0), time.Minute)
		if k.Decision != consent.Proceed {
			c.Errorf("after the push: %d", k.Decision)
		}
		c.expect(map[consent.Check]int{consent.CheckWaited: 1, consent.CheckAllowed: 1})
		c.Settle(c.Context(), k, consent.Taken)
		if e, err := c.Store.Get(c.Context(), app, openid, template); err != nil || e.Answer(consent.OneTime, time.Now()).Why != consent.WhyNoCredit {
			c.Errorf("after the message: %+v, %v", e, err)
		}
	})
}

// The summaries of apps add the days and types of the last week.
func TestSummaries(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		now := time.Now()
		const other = "wxfedcba9876543210"
		for _, count := range []struct {
			app   string
			ago   int
			check consent.Check
			n     int
		}{
			{app, 0, consent.CheckStopped, 3},
			{app, 6, consent.CheckStopped, 4},
			{app, 7, consent.CheckStopped, 100},
			{app, 0, consent.CheckRight, 9},
			{app, 0, consent.CheckWrong, 1},
			{app, 1, consent.CheckMissed, 2},
			{other, 0, consent.CheckAllowed, 5},
		} {
			r := consent.NewRecorder(rdb, slog.New(slog.DiscardHandler), func() time.Time { return now.AddDate(0, 0, -count.ago) })
			for range count.n {
				r.Add(count.app, typ, count.check)
			}
			r.Flush(t.Context())
		}
		got, err := consent.Summaries(t.Context(), rdb, []string{app, other}, now)
		if err != nil {
			t.Fatal(err)
		}
		if want := (consent.Summary{Days: 7, Stopped: 7, WouldSave: 9, Wrong: 1, Missed: 2}); got[app] != want || got[app].WrongShare() != 0.1 {
			t.Errorf("%+v; want %+v", got[app], want)
		}
		if want := (consent.Summary{Days: 7, Allowed: 5}); got[other] != want || got[other].WrongShare() != 0 {
			t.Errorf("%+v; want %+v", got[other], want)
		}
		if none, err := consent.Summaries(t.Context(), rdb, nil, now); err != nil || len(none) != 0 {
			t.Errorf("of no app: %v, %v", none, err)
		}
	})
}
