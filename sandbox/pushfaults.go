package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

// latePush is how much later a push with the fault latereceipt is sent, unless its rule has another delay.
const latePush = 2 * time.Second

// pushFaultRow is a fault of pushes that can be requested by name.
type pushFaultRow struct {
	name   string
	effect pushEffect
	status string // of a receipt
}

// pushEffect is what a fault does to a push.
type pushEffect uint8

const (
	pushLost   pushEffect = iota + 1 // never sent
	pushEarly                        // sent before the call is answered
	pushLate                         // delayed
	pushTwice                        // sent twice, perhaps at the same time
	pushForged                       // signed with another token
	pushStatus                       // a receipt tells another status than success
)

// pushFaultRows returns the faults of pushes. The statuses are those of template messages' receipts.
// Sources: https://developers.weixin.qq.com/doc/service/api/notify/template/api_sendtemplatemessage.html; the last is
// reported by users.
func pushFaultRows() []pushFaultRow {
	return []pushFaultRow{
		{name: "noreceipt", effect: pushLost},
		{name: "earlyreceipt", effect: pushEarly},
		{name: "latereceipt", effect: pushLate},
		{name: "twice", effect: pushTwice},
		{name: "badsignature", effect: pushForged},
		{name: "userblock", effect: pushStatus, status: "failed:user block"},
		{name: "systemfailed", effect: pushStatus, status: "failed: system failed"},
		{name: "freqlimit", effect: pushStatus, status: "failed:freq limit"},
	}
}

// PushFaultNames returns the names of the faults of pushes, for openid prefixes and rules.
func PushFaultNames() []string {
	rows := pushFaultRows()
	names := make([]string, 0, len(rows))
	for _, row := range rows {
		names = append(names, row.name)
	}
	return names
}

// PushFault is a rule: which pushes get which fault. Empty fields match every push. All rules that match a push apply.
type PushFault struct {
	ID       int     `json:"id"`                 // assigned by AddPushFault
	Name     string  `json:"fault"`              // one of PushFaultNames
	App      string  `json:"app,omitempty"`      // app id
	Event    string  `json:"event,omitempty"`    // "TEMPLATESENDJOBFINISH", "subscribe_msg_sent_event" …
	OpenID   string  `json:"openid,omitempty"`   // of the person
	Template string  `json:"template,omitempty"` // template id
	Rate     float64 `json:"rate,omitempty"`     // share of the matching pushes, above 0 up to 1; 0 means 1
	Count    int     `json:"count,omitempty"`    // how many pushes get the fault; 0: all, until the rule is removed

	// Delay is how much later pushes with the fault latereceipt are sent, in real time; 0 is 2 s.
	Delay time.Duration `json:"-"`
}

// AddPushFault appends a rule and returns its id.
func (s *Server) AddPushFault(f PushFault) (int, error) {
	row, known := s.pushFaults[f.Name]
	switch {
	case !known:
		return 0, fmt.Errorf("sandbox: unknown fault %q of pushes; there are %s", f.Name, strings.Join(PushFaultNames(), ", "))
	case f.Rate < 0 || f.Rate > 1 || f.Count < 0:
		return 0, errors.New("sandbox: rate must be between 0 and 1, and count 0 or more")
	case f.Delay < 0 || f.Delay > 0 && row.effect != pushLate:
		return 0, fmt.Errorf("sandbox: delay: %v is negative, or the fault is not latereceipt", f.Delay)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.pushRules.add(row, f.Count, func(id int) PushFault { f.ID = id; return f }), nil
}

// PushFaults returns the rules of pushes that are not used up.
func (s *Server) PushFaults() []PushFault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.pushRules.faults()
}

// RemovePushFault removes a rule; it reports whether there was one.
func (s *Server) RemovePushFault(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.pushRules.remove(id)
}

// ClearPushFaults removes all rules of pushes.
func (s *Server) ClearPushFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.pushRules.rules = nil
}

// activePushFaults are the faults that one event's push gets.
type activePushFaults struct {
	names  []string
	lost   bool
	early  bool
	twice  bool
	forged bool
	late   time.Duration
	status string // of a receipt; "": success
}

func (a *activePushFaults) add(row pushFaultRow, delay time.Duration) {
	if slices.Contains(a.names, row.name) {
		return
	}
	a.names = append(a.names, row.name)
	switch row.effect {
	case pushLost:
		a.lost = true
	case pushEarly:
		a.early = true
	case pushLate:
		a.late = latePush
		if delay > 0 {
			a.late = delay
		}
	case pushTwice:
		a.twice = true
	case pushForged:
		a.forged = true
	case pushStatus:
		a.status = row.status
	}
}

// faultsOfPush returns the faults of an event's push. The caller holds s.mu.
func (s *Server) faultsOfPush(e event) activePushFaults {
	var active activePushFaults
	st := s.state
	st.pushEvents++
	if name, times, limited := splitFault(e.openid); s.pushFaults[name].effect != 0 {
		seen := st.prefixFaultCalls.Add(s.hashOf("push", e.app, e.name, e.openid), false)
		if !limited || int64(seen.Calls) <= int64(times) {
			active.add(s.pushFaults[name], 0)
		}
	}
	for _, rule := range st.pushRules.rules {
		f := rule.fault
		if !f.matches(e) || rule.row.effect == pushStatus && !e.receipt || f.Rate > 0 && s.chance(st.pushEvents, uint64(rule.id)) >= f.Rate { //nolint:gosec // ids are positive
			continue
		}
		st.pushRules.use(rule)
		active.add(rule.row, f.Delay)
	}
	return active
}

func (f *PushFault) matches(e event) bool {
	or := func(want, got string) bool { return want == "" || want == got }
	return or(f.App, e.app) && or(f.Event, e.name) && or(f.OpenID, e.openid) && or(f.Template, e.template)
}

// chance returns a number from 0 up to 1 that depends on the seed and two numbers alone, so that concurrent events do not
// change each other's.
func (s *Server) chance(a, b uint64) float64 {
	random := rand.New(rand.NewPCG(s.opts.Seed, madeup.Scramble(a)^b)) //nolint:gosec // must be repeatable; not used for secrets
	return random.Float64()
}
