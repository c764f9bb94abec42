package sandbox

import "time"

const (
	defaultKeepCalls    = 10_000
	defaultKeepMessages = 1_000_000
	// keptBody bounds what a kept call holds of its body, so that the ring stays small with images too.
	keptBody = 4 << 10
)

// Options says how a sandbox behaves. The zero value is a WeChat with any app, the documented limits and endless
// subscriptions.
type Options struct {
	// Apps maps app ids to their secrets; nil accepts any app id with any secret.
	Apps map[string]string
	// Clock is what tokens, limits and expiry go by; nil is time.Now. Latency passes in real time.
	Clock func() time.Time
	// Seed makes the faults that come at a rate repeatable.
	Seed uint64
	// Latency is added to every answer. A call is accepted before it, so that a caller who gives up has sent its message.
	Latency time.Duration
	// Limits replaces documented limits, by path ("/wxa/generatescheme") or group ("links", "qrcode").
	Limits map[string]Limit
	// NoLimits takes away every limit that Limits does not set.
	NoLimits bool
	// Credits is how many subscribe messages each person accepts of each template, before 43101; 0 or less: endless.
	Credits int
	// AllowConcurrent lets two subscribe messages be sent to one openid at once; WeChat answers 43108.
	AllowConcurrent bool
	// AllowUniform keeps uniform_send alive as for an old grant; WeChat has retired it (45109).
	AllowUniform bool
	// Pages lists the pages of the released mini program, without a leading slash; nil: every page exists.
	Pages []string
	// KeepCalls is how many of the latest calls can be listed (10,000 when 0). Counters know all calls.
	KeepCalls int
	// KeepMessages is about how many of the latest messages are watched for duplicates (1,000,000 when 0), at some 150 bytes.
	KeepMessages int
}

// Limit is what one app may call; a zero field is no limit.
type Limit struct {
	PerSecond int   // in any second
	PerMinute int   // in any 60 seconds
	PerDay    int64 // in a calendar day of Asia/Shanghai
	Total     int64 // for ever; equal parameters count once
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.KeepCalls <= 0 {
		o.KeepCalls = defaultKeepCalls
	}
	if o.KeepMessages <= 0 {
		o.KeepMessages = defaultKeepMessages
	}
	return o
}
