package webhook

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/tasks"
)

// Results reach an endpoint in their order, in few calls, and once.
func TestResultsAreDelivered(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		e, l := newEndpoint(t), newLedger(t, rdb, 0)
		settle(t, l, app, "before", 3, nil)
		nextMillisecond(t, rdb)
		s := newSender(t, rdb, e.config("crm"))
		stop := started(t, rdb, s)
		settle(t, l, app, "a", 230, nil)
		redistest.Until(t, long, "all are accepted", func() bool { return len(e.accepted(app)) >= 230 })
		stop()
		if got := e.accepted(app); !slices.Equal(got, names("a", 230)) {
			t.Errorf("accepted: %v", got)
		}
		for _, m := range e.got() {
			if len(m.ids) > maxResults || len(m.body) > maxBytes+1024 || !strings.HasPrefix(m.id, "msg_") || m.typ != typeResults {
				t.Errorf("%s of type %s has %d results and %d bytes", m.id, m.typ, len(m.ids), len(m.body))
			}
			if strings.Contains(string(m.body), `\u0026`) || !strings.Contains(string(m.body), "ok & a-message-text") {
				t.Errorf("not the record as it is: %s", m.body)
			}
		}
		if got := status(t, rdb, e.config("crm")); got.State != StateCaughtUp || got.Lag != 0 || got.LagSeconds != 0 || got.Dead != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// The first app of all misses no result either: the gateway was there before it.
func TestFirstApp(t *testing.T) {
	_, rdb := redistest.Mini(t)
	e := newEndpoint(t)
	s := newSender(t, rdb, e.config("crm"))
	run(t, s)
	redistest.Until(t, long, "the gateway knows the endpoint", func() bool { return rdb.Exists(t.Context(), endpointsKey).Val() == 1 })
	settle(t, newLedger(t, rdb, 0), app, "a", 3, nil)
	redistest.Until(t, long, "its results are there", func() bool { return slices.Equal(e.accepted(app), names("a", 3)) })
}

// Only the wanted results are sent; the others are no calls, and no lag.
func TestFilters(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		l := newLedger(t, rdb, 0)
		rdb.SAdd(t.Context(), ledger.AppsKey, otherApp)
		e := newEndpoint(t)
		cfg := e.config("crm")
		cfg.Apps, cfg.Types, cfg.Outcomes = []string{app}, []string{"send:*", tasks.TypeTextCheck}, []tasks.Outcome{tasks.OutcomeFailed}
		stop := started(t, rdb, newSender(t, rdb, cfg))
		settle(t, l, app, "ok", 450, nil)
		settle(t, l, otherApp, "other", 5, func(_ int, r *tasks.Result) { r.Outcome = tasks.OutcomeFailed })
		settle(t, l, app, "code", 5, func(_ int, r *tasks.Result) {
			r.Type, r.Outcome = tasks.TypeUnlimitedCode, tasks.OutcomeFailed
		})
		settle(t, l, app, "bad", 3, func(_ int, r *tasks.Result) { r.Outcome = tasks.OutcomeFailed })
		settle(t, l, app, "check", 1, func(_ int, r *tasks.Result) {
			r.Type, r.Outcome = tasks.TypeTextCheck, tasks.OutcomeFailed
		})
		settle(t, l, app, "end", 10, nil)
		redistest.Until(t, long, "the endpoint has caught up", func() bool { return status(t, rdb, cfg).State == StateCaughtUp && len(e.accepted(app)) >= 4 })
		stop()
		if got, want := e.accepted(app), append(names("bad", 3), "check0"); !slices.Equal(got, want) || len(e.accepted(otherApp)) > 0 {
			t.Errorf("accepted: %v, want %v", got, want)
		}
		if got := status(t, rdb, cfg); got.Lag != 0 {
			t.Errorf("%+v", got)
		}
	})
}

// An app that comes after the endpoint misses no result, and a name that is new starts with what
// comes then.
func TestNewAppsAndEndpoints(t *testing.T) {
	_, rdb := redistest.Mini(t)
	e, l := newEndpoint(t), newLedger(t, rdb, 0)
	s := newSender(t, rdb, e.config("crm"))
	started(t, rdb, s)
	settle(t, l, otherApp, "first", 3, nil) // the sender does not know the app yet
	rdb.SAdd(t.Context(), ledger.AppsKey, otherApp)
	redistest.Until(t, long, "the results of the new app are there", func() bool { return slices.Equal(e.accepted(otherApp), names("first", 3)) })

	nextMillisecond(t, rdb)
	second := newEndpoint(t)
	if err := s.SetEndpoints([]Endpoint{e.config("crm"), second.config("new")}); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, long, "the new endpoint has its readers", func() bool { return status(t, rdb, second.config("new")).State == StateCaughtUp })
	settle(t, l, app, "late", 2, nil)
	redistest.Until(t, long, "both have the result", func() bool { return len(second.accepted(app)) == 2 && len(e.accepted(app)) == 2 })
	if err := s.SetEndpoints([]Endpoint{second.config("new")}); err != nil {
		t.Fatal(err)
	}
	settle(t, l, app, "later", 2, nil)
	redistest.Until(t, long, "the endpoint that stays has the results", func() bool { return len(second.accepted(app)) == 4 })
	if got := e.accepted(app); len(got) != 2 || len(second.accepted(otherApp)) > 0 {
		t.Errorf("the endpoint that left got %v", got)
	}
	if err := s.SetEndpoints([]Endpoint{{Name: "Bad"}}); err == nil {
		t.Error("an invalid endpoint was taken over")
	}
}

// A call that failed is repeated with the same bytes and the same webhook-id, also after a redirect,
// which is not followed, and by another gateway.
func TestRepetitionsAreTheSame(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		e, l := newEndpoint(t), newLedger(t, rdb, 0)
		codes := []int{500, 302, 503, 429, 408, 404}
		calls := 0
		e.answers(func(_ message, w http.ResponseWriter) int {
			w.Header().Set("Location", e.server.URL+"/elsewhere")
			calls++
			return codes[(calls-1)%len(codes)]
		})
		cfg := e.config("crm")
		stop := started(t, rdb, newSender(t, rdb, cfg))
		settle(t, l, app, "a", 60, nil)
		redistest.Until(t, long, "some calls have failed", func() bool { return len(e.got()) >= 8 })
		if got := status(t, rdb, cfg); got.State != StateRetrying || got.Lag != 60 || got.Attempts < 7 || got.Since.IsZero() {
			t.Errorf("%+v", got)
		}
		stop()
		e.answers(func(message, http.ResponseWriter) int { return http.StatusOK })
		run(t, newSender(t, rdb, cfg))
		redistest.Until(t, long, "all are accepted", func() bool { return len(e.accepted(app)) >= 60 })
		got := e.got()
		first := slices.IndexFunc(got, func(m message) bool { return m.code == http.StatusOK })
		for _, m := range got[:first+1] {
			if m.id != got[0].id || string(m.body) != string(got[0].body) {
				t.Errorf("%s is not a repetition of %s", m.id, got[0].id)
			}
		}
		for _, m := range got[first+1:] {
			if m.id == got[0].id {
				t.Errorf("%s was accepted twice", m.id)
			}
		}
		if !slices.Equal(e.accepted(app), names("a", 60)) {
			t.Errorf("accepted: %v", e.accepted(app))
		}
	})
}

// Retry-After is followed.
func TestRetryAfter(t *testing.T) {
	_, rdb := redistest.Mini(t)
	e, l := newEndpoint(t), newLedger(t, rdb, 0)
	e.answers(func(_ message, w http.ResponseWriter) int {
		w.Header().Set("Retry-After", "3600")
		return http.StatusTooManyRequests
	})
	cfg := e.config("crm")
	started(t, rdb, newSender(t, rdb, cfg))
	settle(t, l, app, "a", 1, nil)
	redistest.Until(t, long, "the endpoint waits", func() bool { return status(t, rdb, cfg).State == StateRetrying })
	got := status(t, rdb, cfg)
	if wait := time.Until(got.Next); wait < 59*time.Minute || wait > 61*time.Minute || got.Error != ClassLimited || got.HTTPStatus != 429 {
		t.Errorf("%+v, in %v", got, wait)
	}
	e.answers(func(message, http.ResponseWriter) int { return http.StatusOK })
	if err := Enable(t.Context(), rdb, cfg); err != nil {
		t.Fatal(err)
	}
	redistest.Until(t, long, "it continues when it is enabled", func() bool { return len(e.accepted(app)) == 1 })
	if n := len(e.got()); n != 2 {
		t.Errorf("%d calls", n)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "99999999": maxRetryAfter,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Thu, 01 Jan 2026 03:05:05 GMT": time.Second,
	} {
		if got := retryAfter(text, now); got != want {
			t.Errorf("Retry-After %q: %v, want %v", text, got, want)
		}
	}
}

// The pauses of the schedule make up a day.
func TestScheduleIsADay(t *testing.T) {
	var total time.Duration
	for i, wait := range retrySchedule() {
		total += wait
		for range 20 {
			if got := pause(retrySchedule(), i+1, 0); got < wait*9/10 || got > wait*11/10 {
				t.Errorf("pause %d is %v, want %v", i+1, got, wait)
			}
		}
	}
	if total < 23*time.Hour || total > 25*time.Hour {
		t.Errorf("the schedule takes %v", total)
	}
	if got := pause(retrySchedule(), 1000, 0); got < 7*time.Hour {
		t.Errorf("after a day the pause is %v", got)
	}
}

// A refused result is found by halving, becomes a dead letter, and can be sent again.
func TestRefusedResultsBecomeDeadLetters(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		e, l := newEndpoint(t), newLedger(t, rdb, 0)
		bad := []string{"a17", "a18", "a44"}
		refuse := func(m message, _ http.ResponseWriter) int {
			if slices.ContainsFunc(m.ids, func(id string) bool { return slices.Contains(bad, id) }) {
				return http.StatusUnprocessableEntity
			}
			return http.StatusOK
		}
		e.answers(refuse)
		cfg := e.config("crm")
		stop := started(t, rdb, newSender(t, rdb, cfg))
		settle(t, l, app, "a", 120, nil)
		redistest.Until(t, long, "the others are accepted", func() bool { return len(e.accepted(app)) >= 117 })
		redistest.Until(t, long, "the endpoint has caught up", func() bool { return status(t, rdb, cfg).Lag == 0 })
		stop()
		want := slices.DeleteFunc(names("a", 120), func(id string) bool { return slices.Contains(bad, id) })
		if got := e.accepted(app); !slices.Equal(got, want) {
			t.Errorf("accepted: %v", got)
		}
		if n := len(e.got()); n > 40 {
			t.Errorf("%d calls", n)
		}
		letters, err := ledger.DeadLetters(t.Context(), rdb, app, "crm", "0-0", 10)
		if err != nil || len(letters) != 3 || letters[0].Status != 422 || letters[0].Reason != string(ClassRefused) || !strings.Contains(letters[2].Result, "a44") {
			t.Errorf("%+v, %v", letters, err)
		}

		bad = bad[:1]
		again, err := ResendDead(t.Context(), rdb, cfg, app)
		if err != nil || again.Delivered != 2 || again.Refused != 1 || again.Left {
			t.Errorf("%+v, %v", again, err)
		}
		calls := e.got()
		if last := calls[len(calls)-1]; last.id != letters[2].Message || !slices.Equal(last.ids, []string{"a44"}) {
			t.Errorf("the dead letter %s was sent again as %s %v", letters[2].Message, last.id, last.ids)
		}
		if got := status(t, rdb, cfg).Dead; got != 1 {
			t.Errorf("%d dead letters are left", got)
		}
	})
}

// An endpoint that refuses everything does not turn all results into dead letters.
func TestAnEndpointThatRefusesEverything(t *testing.T) {
	_, rdb := redistest.Mini(t)
	e, l := newEndpoint(t), newLedger(t, rdb, 0)
	e.answers(func(message, http.ResponseWriter) int { return http.StatusBadRequest })
	cfg := e.config("crm")
	s := newSender(t, rdb, cfg)
	s.tuning.schedule = []time.Duration{time.Millisecond, time.Hour}
	stop := started(t, rdb, s)
	settle(t, l, app, "a", 100, nil)
	redistest.Until(t, long, "the endpoint is repeated", func() bool { return status(t, rdb, cfg).Attempts == 2 })
	if got := status(t, rdb, cfg); got.Dead != maxRefused || got.Lag != 100-maxRefused || got.Error != ClassRefused {
		t.Errorf("%+v", got)
	}
	stop()
	e.answers(func(message, http.ResponseWriter) int { return http.StatusOK })
	if err := Enable(t.Context(), rdb, cfg); err != nil {
		t.Fatal(err)
	}
	run(t, newSender(t, rdb, cfg))
	redistest.Until(t, long, "the rest is accepted", func() bool { return len(e.accepted(app)) == 100-maxRefused })
}

// 410 disables an endpoint until it is enabled, or its URL changes.
func TestGone(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		e, l := newEndpoint(t), newLedger(t, rdb, 0)
		gone := func(message, http.ResponseWriter) int { return http.StatusGone }
		e.answers(gone)
		cfg := e.config("crm")
		s := newSender(t, rdb, cfg)
		started(t, rdb, s)
		settle(t, l, app, "a", 5, nil)
		disabled := func() bool { return status(t, rdb, cfg).State == StateDisabled }
		redistest.Until(t, long, "the endpoint is disabled", disabled)
		settle(t, l, app, "b", 5, nil)
		low := func() bool { return rdb.HExists(t.Context(), ledger.StreamKey(app)+":cut", "low").Val() }
		redistest.Until(t, long, "a disabled endpoint holds no results back", func() bool { return !low() })
		calls := len(e.got())
		e.answers(func(message, http.ResponseWriter) int { return http.StatusOK })
		if err := Enable(t.Context(), rdb, cfg); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, long, "all are accepted once it is enabled", func() bool { return len(e.accepted(app)) == 10 })
		redistest.Until(t, long, "it holds results back again", low)
		if calls != 1 {
			t.Errorf("%d calls to a disabled endpoint", calls)
		}

		e.answers(gone)
		settle(t, l, app, "c", 5, nil)
		redistest.Until(t, long, "the endpoint is disabled again", disabled)
		e.answers(func(message, http.ResponseWriter) int { return http.StatusOK })
		cfg.URL = e.server.URL + "/moved"
		if err := s.SetEndpoints([]Endpoint{cfg}); err != nil {
			t.Fatal(err)
		}
		redistest.Until(t, long, "all are accepted at the new URL", func() bool { return len(e.accepted(app)) == 15 })
	})
}

// Results since a time can be sent again.
func TestRewind(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		t.Parallel()
		e, l := newEndpoint(t), newLedger(t, rdb, 0)
		cfg := e.config("crm")
		started(t, rdb, newSender(t, rdb, cfg))
		settle(t, l, app, "a", 70, nil)
		redistest.Until(t, long, "all are accepted", func() bool { return len(e.accepted(app)) == 70 && status(t, rdb, cfg).Lag == 0 })
		entries := rdb.XRange(t.Context(), ledger.StreamKey(app), "-", "+").Val()
		since := ledger.EntryTime(entries[40].ID)
		want := 0
		for _, x := range entries {
			if !ledger.EntryTime(x.ID).Before(since) {
				want++
			}
		}
		n, err := Rewind(t.Context(), rdb, cfg, app, since)
		if err != nil || n != int64(want) {
			t.Errorf("%d, %v, want %d", n, err, want)
		}
		redistest.Until(t, long, "they are accepted again", func() bool { return len(e.accepted(app)) == 70+want })
		if got := e.accepted(app)[70:]; !slices.Equal(got, names("a", 70)[70-want:]) {
			t.Errorf("again: %v", got)
		}
		if _, err := Rewind(t.Context(), rdb, Endpoint{Name: "unknown"}, app, since); err == nil {
			t.Error("an endpoint that no gateway has seen was rewound")
		}
	})
}
