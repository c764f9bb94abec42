package sandbox

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/recent"
)

// maxDuplicates bounds the list of messages that were delivered more than once.
const maxDuplicates = 10_000

// Call is one call that the sandbox received.
type Call struct {
	Seq        uint64        `json:"seq"` // numbered from 1
	At         time.Time     `json:"at"`  // by the sandbox's clock
	Duration   time.Duration `json:"took_ns"`
	App        string        `json:"app"` // "" where the token or app id was unknown
	Path       string        `json:"path"`
	OpenID     string        `json:"openid,omitempty"`
	Template   string        `json:"template,omitempty"`
	ErrCode    int           `json:"errcode"` // Unanswered if it was not accepted and got no answer in WeChat's format
	ErrMsg     string        `json:"errmsg,omitempty"`
	MsgID      int64         `json:"msgid,omitempty,string"`
	Delivered  bool          `json:"delivered"`         // accepted and carried out: the message arrives, the link exists
	Repeated   bool          `json:"repeated"`          // answered ok, but not delivered again because of its client_msg_id
	Answered   bool          `json:"answered"`          // a complete answer was written
	Fault      string        `json:"fault,omitempty"`   // the fault that was injected
	Escaped    bool          `json:"escaped,omitempty"` // its body holds \uXXXX escapes
	Size       int           `json:"size"`              // bytes of the body
	Body       []byte        `json:"-"`                 // its first 4 KiB; empty for calls that carry a secret
	remoteAddr string        // of the client
}

// Filter selects calls; empty fields match all.
type Filter struct {
	App       string
	Path      string
	OpenID    string
	Template  string
	ErrCodes  []int // any of these
	Delivered bool  // only delivered calls
}

func (f Filter) matches(c *Call) bool {
	or := func(want, got string) bool { return want == "" || want == got }
	return or(f.App, c.App) && or(f.Path, c.Path) && or(f.OpenID, c.OpenID) && or(f.Template, c.Template) &&
		(len(f.ErrCodes) == 0 || slices.Contains(f.ErrCodes, c.ErrCode)) && (c.Delivered || !f.Delivered)
}

// Count is the number of calls of an app to an endpoint with one errcode.
type Count struct {
	App     string `json:"app"`
	Path    string `json:"path"` // "(unknown)" for paths without an endpoint
	ErrCode int    `json:"errcode"`
	CallCount
}

// CallCount counts calls, and those among them that were delivered.
type CallCount struct {
	Calls     int `json:"calls"`
	Delivered int `json:"delivered"`
}

// Duplicate is a message that was delivered more than once: byte for byte the same body on the same endpoint.
type Duplicate struct {
	App      string `json:"app"`
	Path     string `json:"path"`
	OpenID   string `json:"openid"`
	Template string `json:"template,omitempty"`
	Times    int    `json:"times"`
	Body     string `json:"body"` // its first 4 KiB
}

// outcome is the key of callLog.counts.
type outcome struct {
	app, path string
	errcode   int
}

// callLog holds counters of all calls, counts of the latest messages, and a ring buffer of the latest calls.
type callLog struct {
	capacity   int
	ring       []Call
	total      uint64            // calls so far; call n is at ring[(n-1) % capacity]
	pending    map[uint64]uint64 // calls without an answer yet: serial to n
	counts     map[outcome]*CallCount
	recipients *recent.Counts // calls and deliveries by (app, openid), (app, openid, path) and (app, openid, template)
	messages   *recent.Counts // deliveries by app, path and body
	duplicates map[uint64]*Duplicate
}

func newCallLog(opts Options) *callLog {
	return &callLog{
		capacity:   opts.KeepCalls,
		pending:    map[uint64]uint64{},
		counts:     map[outcome]*CallCount{},
		recipients: recent.NewCounts(3 * opts.KeepMessages),
		messages:   recent.NewCounts(opts.KeepMessages),
		duplicates: map[uint64]*Duplicate{},
	}
}

// record adds a processed call. The caller holds s.mu.
func (l *callLog) record(s *Server, x *exchange) {
	c := Call{
		At: x.at, Path: x.path, OpenID: x.openid(), Template: x.template(), Fault: x.fault.label, MsgID: x.msgID,
		remoteAddr: x.remote,
		Delivered:  x.accepted && !x.repeated && x.row.kind >= kindMessage, Repeated: x.repeated, Size: len(x.body),
	}
	if x.app != nil {
		c.App = x.app.id
	}
	switch {
	case x.refusal != nil:
		c.ErrCode, c.ErrMsg = x.refusal.code, x.refusal.msg
	case !x.accepted:
		c.ErrCode = Unanswered
	}
	if _, upload := x.req.(*imageRequest); !x.row.secret {
		c.Body = slices.Clone(x.body[:min(len(x.body), keptBody)])
		c.Escaped = !upload && escaped(x.body)
	}
	l.count(outcome{c.App, x.row.path, c.ErrCode}, c.Delivered)
	l.countRecipient(s, &c)
	if c.Delivered && x.row.kind == kindMessage {
		l.countMessage(s.hashOf(c.App, c.Path, string(x.body)), &c)
	}
	l.add(x.serial, c)
}

func (l *callLog) count(key outcome, delivered bool) {
	t := l.counts[key]
	if t == nil {
		t = &CallCount{}
		l.counts[key] = t
	}
	t.Calls++
	if delivered {
		t.Delivered++
	}
}

func (l *callLog) countRecipient(s *Server, c *Call) {
	if c.App == "" || c.OpenID == "" {
		return
	}
	l.recipients.Add(s.hashOf(c.App, c.OpenID, ""), c.Delivered)
	l.recipients.Add(s.hashOf(c.App, c.OpenID, c.Path), c.Delivered)
	if c.Template != "" {
		l.recipients.Add(s.hashOf(c.App, c.OpenID, c.Template), c.Delivered)
	}
}

func (l *callLog) countMessage(key uint64, c *Call) {
	times := int(l.messages.Add(key, true).Delivered)
	if times < 2 {
		return
	}
	if d := l.duplicates[key]; d != nil {
		d.Times = times
	} else if len(l.duplicates) < maxDuplicates {
		l.duplicates[key] = &Duplicate{App: c.App, Path: c.Path, OpenID: c.OpenID, Template: c.Template, Times: times, Body: string(c.Body)}
	}
}

func (l *callLog) add(serial uint64, c Call) {
	l.total++
	c.Seq = l.total
	l.pending[serial] = c.Seq
	if len(l.ring) < l.capacity {
		l.ring = append(l.ring, c)
		return
	}
	l.ring[l.slot(c.Seq)] = c
}

func (l *callLog) slot(n uint64) int { return int((n - 1) % uint64(l.capacity)) } //nolint:gosec // keep is positive

// recordAnswer records how long a call took and whether a complete answer was written. Only the first record of a call counts.
func (s *Server) recordAnswer(x *exchange, took time.Duration, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.state.log
	n, ok := l.pending[x.serial]
	if !ok {
		return // recorded already, or cleared by Reset
	}
	delete(l.pending, x.serial)
	if c := &l.ring[l.slot(n)]; c.Seq == n {
		c.Answered, c.Duration = answered, took
	}
}

// Calls returns the kept calls that match a filter, oldest first.
func (s *Server) Calls(f Filter) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.state.log
	var list []Call
	for n := l.total - uint64(len(l.ring)) + 1; n <= l.total; n++ {
		if c := &l.ring[l.slot(n)]; f.matches(c) {
			list = append(list, *c)
		}
	}
	return list
}

// Count returns the number of calls that match a filter: of all calls if the filter has neither openid nor template, else of
// the kept ones. CallCount covers more calls of a person.
func (s *Server) Count(f Filter) int {
	if f.OpenID != "" || f.Template != "" {
		return len(s.Calls(f))
	}
	n := 0
	for _, c := range s.Counts() {
		if (f.App == "" || f.App == c.App) && (f.Path == "" || f.Path == c.Path) && (len(f.ErrCodes) == 0 || slices.Contains(f.ErrCodes, c.ErrCode)) {
			if f.Delivered {
				n += c.Delivered
			} else {
				n += c.Calls
			}
		}
	}
	return n
}

// Counts returns the number of calls by app, path and errcode, sorted.
func (s *Server) Counts() []Count {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Count, 0, len(s.state.log.counts))
	for key, t := range s.state.log.counts {
		list = append(list, Count{App: key.app, Path: key.path, ErrCode: key.errcode, CallCount: *t})
	}
	slices.SortFunc(list, func(a, b Count) int {
		return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Path, b.Path), cmp.Compare(a.ErrCode, b.ErrCode))
	})
	return list
}

// CallCount counts the calls and deliveries to a person: all of them if target is "", else those on that path or with that
// template. It covers the latest Options.KeepMessages messages.
func (s *Server) CallCount(app, openid, target string) CallCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.state.log.recipients.Get(s.hashOf(app, openid, target))
	return CallCount{Calls: int(c.Calls), Delivered: int(c.Delivered)}
}

// Delivered returns the number of deliveries to a person; see CallCount.
func (s *Server) Delivered(app, openid, target string) int {
	return s.CallCount(app, openid, target).Delivered
}

// Duplicates returns the messages that were delivered more than once, at most 10,000, sorted by app, path and openid. It cannot
// recognise messages that are repeated on purpose: tests should send bodies that differ.
func (s *Server) Duplicates() []Duplicate {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Duplicate, 0, len(s.state.log.duplicates))
	for _, d := range s.state.log.duplicates {
		list = append(list, *d)
	}
	slices.SortFunc(list, func(a, b Duplicate) int {
		return cmp.Or(strings.Compare(a.App, b.App), strings.Compare(a.Path, b.Path), strings.Compare(a.OpenID, b.OpenID), strings.Compare(a.Body, b.Body))
	})
	return list
}

// Peak is the highest number of calls in any sliding second and in any sliding minute.
type Peak struct {
	Second int `json:"second"`
	Minute int `json:"minute"`
}

// Peak returns the highest number of calls with a valid token that an app made on an endpoint in any sliding second and
// minute, accepted or not.
func (s *Server) Peak(app, path string) Peak {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.state.apps[app]; a != nil && a.callWindows[path] != nil {
		second, minute := a.callWindows[path].Peak()
		return Peak{Second: second, Minute: minute}
	}
	return Peak{}
}
