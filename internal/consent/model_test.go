package consent_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/consent"
)

// world is a WeChat with one person and one template.
type world struct {
	*fixture
	rng      *rand.Rand
	credits  int
	off      bool
	pending  []delivery // pushes and reports under way
	inFlight []call
	lossy    bool // some calls get no answer, and some workers die

	stopped, wrong, missed, accepted int
}

// delivery is news that come later.
type delivery struct {
	due  time.Time
	news consent.News
}

// call is a message between its reservation and its answer.
type call struct {
	consent.Send
	held   bool
	answer consent.Answer
}

// deliver applies the news that are due, or all of them.
func (w *world) deliver(all bool) {
	var later []delivery
	w.rng.Shuffle(len(w.pending), func(i, j int) { w.pending[i], w.pending[j] = w.pending[j], w.pending[i] })
	for _, d := range w.pending {
		if !all && d.due.After(w.now()) {
			later = append(later, d)
			continue
		}
		for range 1 + w.rng.IntN(2) { // twice
			w.must(w.store.Grant(w.Context(), app, d.news))
		}
	}
	w.pending = later
}

// push sends news of what the person does now.
func (w *world) push(choice consent.Choice, reported bool) {
	n := consent.News{OpenID: openid, Template: template, Choice: choice, At: w.now(), Reported: reported}
	if reported {
		n.ID = fmt.Sprint("report-", w.now().Unix())
	}
	w.pending = append(w.pending, delivery{w.now().Add(time.Duration(w.rng.IntN(9)) * time.Second), n})
}

// begin takes a message to its call, as the worker does.
func (w *world) begin() {
	m := w.send()
	before, held, err := w.store.Reserve(w.Context(), m, hold)
	w.must(err)
	a := before.Answer(consent.OneTime, w.now())
	if a.May == consent.No { // it waits for news, and then ends
		w.advance(consent.PushDelay)
		w.deliver(false)
		m.Began = w.now()
		if before, held, err = w.store.Reserve(w.Context(), m, hold); err != nil {
			w.Fatal(err)
		}
		if a = before.Answer(consent.OneTime, w.now()); a.May == consent.No {
			w.stopped++
			if w.credits-len(w.inFlight) > 0 && !w.off {
				w.wrong++
				w.Errorf("stopped (%s) a message to a person with %d credits: %s", a.Why, w.credits, w.raw())
			}
			return
		}
	}
	if a.Why == consent.WhySending {
		return // it comes again
	}
	w.inFlight = append(w.inFlight, call{m, held, a})
}

// end answers a call.
func (w *world) end(c call) {
	taken := w.credits > 0 && !w.off
	if taken {
		w.credits--
	}
	if w.lossy && w.rng.IntN(6) == 0 {
		return // no answer, or the worker died
	}
	for range 1 + w.rng.IntN(2) { // twice, after a broken connection
		switch {
		case taken && c.held:
			w.must(w.store.Commit(w.Context(), c.Send, consent.Reserved))
		case taken && c.answer.Why == consent.WhyRecheck:
			w.must(w.store.Commit(w.Context(), c.Send, consent.NoCredit))
		case taken && c.answer.Why == consent.WhyNoNews:
			w.must(w.store.Commit(w.Context(), c.Send, consent.PushAhead))
		case !taken:
			w.must(w.store.Zero(w.Context(), c.Send))
		}
	}
	switch {
	case taken:
		w.accepted++
	case c.answer.May == consent.Yes:
		w.missed++
	}
}

// step does one thing.
func (w *world) step() {
	w.advance(time.Duration(1+w.rng.IntN(15)) * time.Second)
	w.deliver(false)
	for len(w.inFlight) > 0 && w.now().Sub(w.inFlight[0].Began) > hold-15*time.Second { // attempts have a timeout
		c := w.inFlight[0]
		w.inFlight = w.inFlight[1:]
		w.end(c)
	}
	switch n := w.rng.IntN(20); {
	case n < 4:
		w.credits++
		w.off = false
		w.push(consent.Accepted, false)
		if w.rng.IntN(2) == 0 {
			w.push(consent.Accepted, true)
		}
	case n < 5:
		w.push(consent.Declined, false)
	case n < 6 && w.rng.IntN(4) == 0:
		w.off = true
		w.push(consent.TurnedOff, false)
	case n < 13:
		w.begin()
	case n < 19 && len(w.inFlight) > 0:
		i := w.rng.IntN(len(w.inFlight))
		c := w.inFlight[i]
		w.inFlight = append(w.inFlight[:i], w.inFlight[i+1:]...)
		w.end(c)
	case w.rng.IntN(50) == 0:
		w.advance(40 * 24 * time.Hour)
	}
}

// seeds returns the number of worlds: $CONSENT_WORLDS, or a few.
func seeds(t *testing.T) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("CONSENT_WORLDS"), "15"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// In a world where all news come, some late, twice or overtaken, no message is stopped that WeChat
// would take, and few are sent that it refuses.
func TestModel(t *testing.T) {
	for _, lossy := range []bool{false, true} {
		t.Run(fmt.Sprint("lossy=", lossy), func(t *testing.T) {
			each(t, func(f *fixture) {
				total := &world{}
				for seed := range seeds(t) {
					w := &world{fixture: newFixture(f.T, f.rdb), rng: rand.New(rand.NewPCG(uint64(seed), 1)), lossy: lossy} //nolint:gosec // repeatable
					w.must(f.rdb.FlushAll(f.Context()).Err())
					for range 60 {
						w.step()
						if f.Failed() {
							f.Fatalf("seed %d", seed)
						}
					}
					total.stopped, total.missed, total.accepted = total.stopped+w.stopped, total.missed+w.missed, total.accepted+w.accepted
				}
				f.Logf("%d accepted, %d stopped, %d missed", total.accepted, total.stopped, total.missed)
				if total.stopped < 50 || total.accepted < 50 {
					f.Error("the world is too quiet to show anything")
				}
				if !lossy && total.missed*4 > total.stopped {
					f.Errorf("%d calls met 43101 although a credit was believed left, and only %d were saved", total.missed, total.stopped)
				}
			})
		})
	}
}
