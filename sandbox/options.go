package sandbox

import "time"

const (
	defaultKeepCalls    = 10_000
	defaultKeepMessages = 1_000_000
	// keptBody bounds the part of the body that a kept call holds, so that images do not fill the memory.
	keptBody = 4 << 10
)

// Options configures a sandbox. The zero value accepts any app, with the documented limits and unlimited subscriptions.
type Options struct {
	// Apps maps app ids to their secrets; nil accepts any app id with any secret.
	Apps map[string]string
	// Providers maps the app ids of service providers (第三方平台) to their secrets; nil accepts any, unless Apps is set.
	Providers map[string]string
	// Clock is the clock for tokens, limits and expiry; nil is time.Now. Latency is in real time.
	Clock func() time.Time
	// Seed makes faults with a rate repeatable.
	Seed uint64
	// Latency is added to every answer. A call is accepted before the delay, so the message of a client that gives up is sent.
	Latency time.Duration
	// Limits replaces documented limits, by path ("/wxa/generatescheme") or group ("links", "qrcode").
	Limits map[string]Limit
	// NoLimits removes every limit that Limits does not set.
	NoLimits bool
	// Credits is how many subscribe messages of a template each person accepts before 43101; 0 or less: unlimited.
	Credits int
	// AllowConcurrent allows concurrent subscribe messages to one openid; WeChat answers 43108.
	AllowConcurrent bool
	// AllowUniform keeps uniform_send working, as for apps with an old grant; WeChat has retired it (45109).
	AllowUniform bool
	// Pages lists the pages of the released mini program, without a leading slash; nil: every page exists.
	Pages []string
	// Callbacks are the URLs, by app, to which events are pushed: receipts, media checks, subscriptions. An app without one
	// gets none. They must be valid, see [Callback.Validate].
	Callbacks map[string]Callback
	// Pushes is how events are pushed.
	Pushes PushOptions
	// KeepCalls is how many of the latest calls are kept (10,000 when 0), and of the latest pushes. Counters include all calls.
	KeepCalls int
	// KeepMessages is approximately how many of the latest messages are checked for duplicates (1,000,000 when 0), at about
	// 150 bytes each.
	KeepMessages int
	// Security maps app ids to their API security mode; apps without an entry do not have it.
	Security map[string]Security
}

// Limit is the number of calls an app may make; zero: no limit.
type Limit struct {
	PerSecond int   // in any second
	PerMinute int   // in any 60 seconds
	PerDay    int64 // in a calendar day of Asia/Shanghai
	Total     int64 // lifetime total; equal parameters count once
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.KeepCalls <= 0 {
		o.KeepCalls = defaultKeepCalls
	}
	o.Pushes = o.Pushes.withDefaults()
	if o.KeepMessages <= 0 {
		o.KeepMessages = defaultKeepMessages
	}
	return o
}
