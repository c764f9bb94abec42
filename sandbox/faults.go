package sandbox

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// faultEffect is what a fault does to a call.
type faultEffect uint8

const (
	effectNone       faultEffect = iota
	effectRefuse                 // an errcode is returned
	effectRevoke                 // 40001 is returned and the token revoked
	effectSlow                   // the answer is delayed
	effectRisky                  // a check finds risky content
	effectHang                   // not accepted, no answer
	effectReset                  // not accepted, connection reset
	effectGarbage                // not accepted, 200 with an HTML page
	effectBadGateway             // not accepted, 502 with an HTML page
	effectLost                   // accepted, connection reset
	effectHangAfter              // accepted, no answer
	effectCut                    // accepted, the answer is truncated
)

// delayFault is the name of the fault that only delays the answer, by slowDelay unless its rule has another delay.
const (
	delayFault = "slow"
	slowDelay  = 300 * time.Millisecond
)

// faultRow is a fault that can be requested by name.
type faultRow struct {
	name    string
	effect  faultEffect
	code    int  // of effectRefuse
	lasting bool // occurs on every call unless a count is given
	message bool // a person's answer to a message; other endpoints ignore it
}

func faultRows() []faultRow {
	return []faultRow{
		{name: "busy", effect: effectRefuse, code: -1},
		{name: "concurrent", effect: effectRefuse, code: 43108},
		{name: "second", effect: effectRefuse, code: 44990},
		{name: "minute", effect: effectRefuse, code: 45011},
		{name: "day", effect: effectRefuse, code: 45009},
		{name: "token", effect: effectRevoke, code: 40001},
		{name: delayFault, effect: effectSlow, lasting: true},
		{name: "hang", effect: effectHang},
		{name: "reset", effect: effectReset},
		{name: "lost", effect: effectLost},
		{name: "hangafter", effect: effectHangAfter},
		{name: "garbage", effect: effectGarbage},
		{name: "badgateway", effect: effectBadGateway},
		{name: "cut", effect: effectCut},
		{name: "unsubscribed", effect: effectRefuse, code: 43101, lasting: true, message: true},
		{name: "blocked", effect: effectRefuse, code: 43004, lasting: true, message: true},
		{name: "inactive", effect: effectRefuse, code: 45015, lasting: true, message: true},
		{name: "badopenid", effect: effectRefuse, code: 40003, lasting: true},
		{name: "risky", effect: effectRisky, lasting: true},
	}
}

// FaultNames returns the names of the faults, for openid prefixes and rules.
func FaultNames() []string {
	rows := faultRows()
	names := make([]string, 0, len(rows))
	for _, row := range rows {
		names = append(names, row.name)
	}
	return names
}

// Fault is a rule: which calls get which fault. Empty fields match every call, with one exception: the endpoints for tokens,
// quotas, request ids and templates are matched only by a rule with their Path.
type Fault struct {
	ID       int     `json:"id"`                 // assigned by AddFault
	Name     string  `json:"fault,omitempty"`    // one of FaultNames, or "" with an ErrCode
	ErrCode  int     `json:"errcode,omitempty"`  // returned when Name is ""
	ErrMsg   string  `json:"errmsg,omitempty"`   // its text; "" means WeChat's wording
	App      string  `json:"app,omitempty"`      // app id
	Path     string  `json:"path,omitempty"`     // endpoint
	OpenID   string  `json:"openid,omitempty"`   // receiver
	Template string  `json:"template,omitempty"` // template id
	Rate     float64 `json:"rate,omitempty"`     // share of the matching calls, above 0 up to 1; 0 means 1
	Count    int     `json:"count,omitempty"`    // how many calls get the fault; 0: all, until the rule is removed

	// Delay is how much later these calls are answered, besides Options.Latency. A rule with a Delay alone only delays. For
	// the name "slow" it replaces the 300 ms.
	Delay time.Duration `json:"-"`
}

// AddFault appends a rule and returns its id. The first rule that matches a call applies.
func (s *Server) AddFault(f Fault) (int, error) {
	row, known := s.faults[f.Name]
	switch {
	case f.Name == "" && f.ErrCode == 0 && (f.Delay == 0 || f.ErrMsg != ""):
		return 0, errors.New("sandbox: a fault needs a name, an errcode or a delay")
	case f.Name == "" && f.ErrCode == 0:
		f.Name, row = delayFault, s.faults[delayFault]
	case f.Name == "":
		row = faultRow{effect: effectRefuse, code: f.ErrCode}
	case !known:
		return 0, fmt.Errorf("sandbox: unknown fault %q; there are %s", f.Name, strings.Join(FaultNames(), ", "))
	case f.ErrCode != 0 || f.ErrMsg != "":
		return 0, errors.New("sandbox: a fault takes a name or an errcode, not both")
	}
	if f.Path != "" && !s.env.paths[f.Path] {
		return 0, fmt.Errorf("sandbox: unknown endpoint %q", f.Path)
	}
	if f.Path != "" && row.message && s.rows[f.Path].kind != kindMessage {
		return 0, fmt.Errorf("sandbox: %q is an answer to messages, and %s sends none", f.Name, f.Path)
	}
	if f.Delay < 0 || f.Delay > 0 && (row.effect == effectHang || row.effect == effectHangAfter) {
		return 0, fmt.Errorf("sandbox: delay: %v is negative, or the fault is never answered", f.Delay)
	}
	if f.Rate < 0 || f.Rate > 1 || f.Count < 0 {
		return 0, errors.New("sandbox: a fault's rate must be between 0 and 1, and its count must not be negative")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.rules.add(row, f.Count, func(id int) Fault { f.ID = id; return f }), nil
}

// Faults returns the rules that are not used up.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.rules.faults()
}

// RemoveFault removes a rule, and reports whether there was one with that id.
func (s *Server) RemoveFault(id int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.rules.remove(id)
}

// ClearFaults removes all rules. Openid prefixes keep working.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.rules.rules = nil
}

// activeFault is the fault that one call gets.
type activeFault struct {
	faultRow
	label string        // its name in the call log
	text  string        // errmsg, if a rule sets one
	delay time.Duration // of the answer
}

func (s *Server) faultFor(x *exchange) activeFault {
	if row, ok := s.namedFault(x); ok {
		fault := activeFault{faultRow: row, label: row.name}
		if row.effect == effectSlow {
			fault.delay = slowDelay
		}
		return fault
	}
	st := s.state
	for _, rule := range st.rules.rules {
		f := rule.fault
		if !f.matches(rule.row, x) || f.Rate > 0 && st.random.Float64() >= f.Rate {
			continue
		}
		st.rules.use(rule)
		label := f.Name
		if label == "" {
			label = "errcode"
		}
		delay := f.Delay
		if rule.row.effect == effectSlow && delay == 0 {
			delay = slowDelay
		}
		return activeFault{faultRow: rule.row, label: label, text: f.ErrMsg, delay: delay}
	}
	return activeFault{}
}

func (f *Fault) matches(row faultRow, x *exchange) bool {
	or := func(want, got string) bool { return want == "" || want == got }
	reached := f.Path == x.row.path || f.Path == "" && (x.row.kind == kindMessage || x.row.kind == kindProduct && !row.message)
	return reached && or(f.App, x.app.id) && or(f.OpenID, x.openid()) && or(f.Template, x.template())
}

// namedFault returns the fault that the request's faultSource names, if the call is to get it.
func (s *Server) namedFault(x *exchange) (faultRow, bool) {
	if x.req == nil {
		return faultRow{}, false
	}
	name, times, limited := splitFault(x.req.faultSource())
	row, ok := s.faults[name]
	if row.message && x.row.kind != kindMessage {
		return faultRow{}, false
	}
	if !ok || row.lasting && !limited {
		return row, ok
	}
	if !limited {
		times = 1
	}
	seen := s.state.prefixFaultCalls.Add(s.hashOf(x.app.id, x.row.path, x.req.faultSource()), false)
	return row, int64(seen.Calls) <= int64(times)
}

// splitFault parses "<name>[<n>]-…", or "fault=<name>[<n>]" followed by '&', '-' or the end.
func splitFault(text string) (name string, times int, limited bool) {
	text, spelled := strings.CutPrefix(text, "fault=")
	i := 0
	for i < len(text) && text[i] >= 'a' && text[i] <= 'z' {
		i++
	}
	j := i
	for j < len(text) && text[j] >= '0' && text[j] <= '9' {
		j++
	}
	ended := j < len(text) && text[j] == '-' || spelled && (j == len(text) || text[j] == '&')
	if !ended {
		return "", 0, false
	}
	times, err := strconv.Atoi(text[i:j])
	return text[:i], times, err == nil
}

// queryFault returns the faultSource of a page's path: the parameter fault of its query, with the path appended so that paths
// count separately.
func queryFault(path string) string {
	_, query, _ := strings.Cut(path, "?")
	values, err := url.ParseQuery(query)
	if err != nil || values.Get("fault") == "" {
		return ""
	}
	return "fault=" + values.Get("fault") + "&" + path
}

func newRandom(seed uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // must be repeatable; not used for secrets
}
