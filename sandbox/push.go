package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// The formats of pushes.
const (
	FormatXML  = "xml"
	FormatJSON = "json"
)

// Callback is the URL to which an app's events are pushed, as set in WeChat's console (消息推送, 服务器配置).
type Callback struct {
	URL   string // "http://127.0.0.1:8081/callback/wx0123456789abcdef"
	Token string
	// AESKey is the EncodingAESKey, which encrypts the pushes (safe mode); "": plain mode.
	AESKey string
	// Format is FormatXML ("" too) or FormatJSON. Official accounts have XML only, so that the receipts of template messages
	// and of official accounts' subscribe messages are XML in either case.
	Format string
}

// Validate reports what is wrong with a callback, without its token and key.
func (c Callback) Validate() error {
	_, err := c.target("")
	return err
}

func (c Callback) target(app string) (pushwire.Target, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Host == "" || !oneOf(u.Scheme, "http", "https") {
		return pushwire.Target{}, errors.New(`sandbox: the URL of a callback must begin with "http://" or "https://" and a host`)
	}
	if c.Token == "" {
		return pushwire.Target{}, errors.New("sandbox: the token of a callback is missing")
	}
	if !oneOf(c.Format, "", FormatXML, FormatJSON) {
		return pushwire.Target{}, fmt.Errorf("sandbox: the format %q of a callback is neither %q nor %q", c.Format, FormatXML, FormatJSON)
	}
	t := pushwire.Target{URL: c.URL, Token: c.Token, AppID: app, JSON: c.Format == FormatJSON}
	if c.AESKey != "" {
		if t.Key, err = pushwire.DecodeKey(c.AESKey); err != nil {
			return pushwire.Target{}, fmt.Errorf("sandbox: the AES key of a callback %w", err)
		}
	}
	return t, nil
}

// PushOptions configures how events are pushed. The zero value is WeChat's way, without a delay.
type PushOptions struct {
	// Timeout is how long one attempt may take (5 s when 0); Interval is the least time between the starts of two (Timeout
	// when 0).
	Timeout  time.Duration
	Interval time.Duration
	// Attempts is how often a push is tried that is not answered with status 200 and "success", nothing or a reply (3 when 0).
	// WeChat documents the three attempts for official accounts.
	Attempts int
	// Delay is the time between an event and its push; Jitter is the longest random time beside it.
	Delay  time.Duration
	Jitter time.Duration
	// Shuffle collects the pushes of a period, and sends them in random order at its end; 0 sends them in order.
	Shuffle time.Duration
	// Concurrency is how many pushes are sent at the same time (16 when 0).
	Concurrency int
	// MaxQueue is how many pushes may wait or be under way (100,000 when 0); further ones are discarded.
	MaxQueue int
}

func (o PushOptions) withDefaults() PushOptions {
	o.Timeout = cmp.Or(o.Timeout, 5*time.Second)
	o.Interval = cmp.Or(o.Interval, o.Timeout)
	o.Attempts = cmp.Or(o.Attempts, 3)
	o.Concurrency = cmp.Or(o.Concurrency, 16)
	o.MaxQueue = cmp.Or(o.MaxQueue, 100_000)
	return o
}

// PushStatus is how far a push got.
type PushStatus string

// The values of PushStatus.
const (
	PushQueued    PushStatus = "queued"    // waits, or is being sent
	PushTaken     PushStatus = "taken"     // answered as WeChat expects
	PushFailed    PushStatus = "failed"    // no attempt was answered so
	PushLost      PushStatus = "lost"      // not sent, by a fault
	PushDiscarded PushStatus = "discarded" // the queue was full, or the sandbox was stopped or reset
)

// Push is one push of an event.
type Push struct {
	Seq      uint64        `json:"seq"` // numbered from 1
	At       time.Time     `json:"at"`  // of the event, by the sandbox's clock
	App      string        `json:"app"`
	Event    string        `json:"event"`
	OpenID   string        `json:"openid,omitempty"`
	Template string        `json:"template,omitempty"`
	MsgID    string        `json:"msgid,omitempty"`
	TraceID  string        `json:"trace_id,omitempty"`
	Receipt  string        `json:"receipt,omitempty"` // the status that a receipt tells, such as "success"
	Copy     int           `json:"copy,omitempty"`    // 2: the second push of the same event
	Faults   []string      `json:"faults,omitempty"`
	Attempts int           `json:"attempts"`
	Status   PushStatus    `json:"status"`
	Answer   int           `json:"answer,omitempty"` // the HTTP status of the latest attempt
	Error    string        `json:"error,omitempty"`  // of the latest attempt
	Took     time.Duration `json:"took_ns"`          // the latest attempt
}

// PushFilter selects pushes; empty fields match all.
type PushFilter struct {
	App    string
	Event  string
	OpenID string
	MsgID  string
	Status PushStatus
}

func (f PushFilter) matches(p *Push) bool {
	or := func(want, got string) bool { return want == "" || want == got }
	return or(f.App, p.App) && or(f.Event, p.Event) && or(f.OpenID, p.OpenID) && or(f.MsgID, p.MsgID) && or(string(f.Status), string(p.Status))
}

// SetCallback sets the URL of an app's pushes from now on, also of those that wait; a Callback without URL removes it.
func (s *Server) SetCallback(app string, c Callback) error {
	s.mu.Lock()
	_, known := s.findApp(app)
	s.mu.Unlock()
	if !known {
		return fmt.Errorf("sandbox: unknown app %q", app)
	}
	if c == (Callback{}) {
		s.pushes.removeTarget(app)
		return nil
	}
	t, err := c.target(app)
	if err != nil {
		return err
	}
	s.pushes.setTarget(app, t)
	return nil
}

// VerifyCallback checks an app's URL as WeChat does before it accepts one in its console: with a GET request whose echostr
// must be the answer.
func (s *Server) VerifyCallback(ctx context.Context, app string) error {
	return s.pushes.verify(ctx, app)
}

// Pushes returns the latest pushes that match a filter, at most Options.KeepCalls, oldest first.
func (s *Server) Pushes(f PushFilter) []Push { return s.pushes.list(f) }

// PushCounts returns the number of pushes by status, of all since the start or the last Reset.
func (s *Server) PushCounts() map[PushStatus]int { return s.pushes.countsByStatus() }

// WaitPushes waits until no push waits or is being sent. A push belongs to its call: it waits from before the answer on.
func (s *Server) WaitPushes(ctx context.Context) error { return s.pushes.wait(ctx) }

// Close discards the pushes that wait, and waits for those that are being sent, which it interrupts. Later events are not
// pushed. The function that Start returns does the same; a Server without callbacks has nothing to close.
func (s *Server) Close() { s.pushes.close() }

// callbackTargets returns the targets of Options.Callbacks. It panics for an invalid one, which New cannot report.
func callbackTargets(callbacks map[string]Callback) map[string]pushwire.Target {
	targets := make(map[string]pushwire.Target, len(callbacks))
	for _, app := range slices.Sorted(maps.Keys(callbacks)) {
		t, err := callbacks[app].target(app)
		if err != nil {
			panic(fmt.Sprintf("%v (Options.Callbacks of %s)", err, app))
		}
		targets[app] = t
	}
	return targets
}
