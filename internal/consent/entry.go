package consent

import (
	"strconv"
	"strings"
	"time"
)

// Skew is how much the clocks of WeChat and of the workers may differ.
const Skew = 5 * time.Second

// Kind is the kind of a template, in WeChat's numbers.
type Kind int

// The kinds of templates.
const (
	KindUnknown Kind = 0
	OneTime     Kind = 2 // one message for each acceptance
	LongTerm    Kind = 3 // any number of messages
)

// KindOf returns the kind of a template of an app; known is false for one that is not in the registry.
type KindOf func(app, template string) (kind int, known bool)

// Of returns the kind of a template. Without a function, and for kinds of other numbers, it is unknown.
func (f KindOf) Of(app, template string) Kind {
	if f != nil {
		if kind, known := f(app, template); known && (Kind(kind) == OneTime || Kind(kind) == LongTerm) {
			return Kind(kind)
		}
	}
	return KindUnknown
}

// Entry is what is known of one person and template. Times are seconds since 1970, 0 for never.
type Entry struct {
	updated  int64
	credits  int   // without those that were spent; reservations are part of it
	accepted int64 // the last acceptance
	off      int64 // when the person turned messages off
	declined int64 // when the person refused the dialogue
	refused  int64 // the begin of the last call that met 43101
	refusals int   // 43101 in a row, at least half a day apart
	// uncounted: the person has credits that were not counted.
	uncounted bool
	held      []int64 // when the reservations expire
}

// parseEntry reads an entry as the scripts write it.
func parseEntry(text string) Entry {
	var e Entry
	for _, token := range strings.Fields(text) {
		digits := token[1:]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end]
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil {
			continue // of a newer version
		}
		switch token[0] {
		case 'u':
			e.updated = n
		case 'n':
			e.credits = int(n)
		case 'a':
			e.accepted = n
		case 'o':
			e.off = n
		case 'x':
			e.declined = n
		case 'z':
			e.refused = n
		case 'k':
			e.refusals = int(n)
		case 'f':
			e.uncounted = n != 0
		case 'r':
			e.held = append(e.held, n)
		}
	}
	return e
}

// known reports whether there was any news.
func (e Entry) known() bool {
	return e.accepted > 0 || e.off > 0 || e.declined > 0 || e.refused > 0 || e.uncounted
}

// May says whether a message may be sent.
type May string

// The values of May.
const (
	Yes     May = "yes"
	No      May = "no"
	Unknown May = "unknown"
)

// Why explains a May.
type Why string

// The values of Why.
const (
	WhyNoNews     Why = "no_news"      // unknown: nothing was heard of the person and the template
	WhyCredits    Why = "credits"      // yes: one-time credits are left
	WhyLongTerm   Why = "long_term"    // yes: the person accepted a long-term template
	WhyNoCredit   Why = "no_credit"    // no: all credits are spent
	WhyRefused    Why = "refused"      // no: WeChat answered 43101
	WhyDeclined   Why = "declined"     // no: the person refused the dialogue
	WhyTurnedOff  Why = "turned_off"   // no: the person turned the template's messages off
	WhySending    Why = "sending"      // unknown: messages that are being sent have reserved all credits
	WhyUnanswered Why = "unanswered"   // unknown: calls without an answer may have spent the credits
	WhyUncounted  Why = "uncounted"    // unknown: the person has credits from before the ledger, or whose push was lost
	WhyRecheck    Why = "recheck"      // unknown: the refusal is so old that one call is tried
	WhyKind       Why = "unknown_kind" // unknown: the template's kind is not in the registry
)

// Answer says whether a message may be sent.
type Answer struct {
	May      May
	Why      Why
	Credits  int  // that are believed left, without reserved ones; 0 for a long-term template
	LongTerm bool // the template is a long-term one, and the person accepted it
	Since    time.Time
}

// rechecks is how long a refusal holds, by the number of 43101 in a row.
func rechecks() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{
		day, // there was none, only the person's own refusal
		day,
		7 * day,
		30 * day, // and so on
	}
}

// recheckDue reports whether a refusal at a time is so old that one call is tried.
func (e Entry) recheckDue(at int64, now time.Time) bool {
	waits := rechecks()
	return !now.Before(time.Unix(at, 0).Add(waits[min(e.refusals, len(waits)-1)]))
}

// Answer says whether a message of a template of a kind may be sent. It says no only where the kind
// is known.
func (e Entry) Answer(kind Kind, now time.Time) Answer {
	var a Answer
	if kind == LongTerm {
		a = e.longTerm(now)
	} else {
		a = e.oneTime(now)
	}
	if a.Why != WhyNoNews {
		a.Since = time.Unix(e.updated, 0).UTC()
	}
	if kind == KindUnknown && a.May == No {
		a.May, a.Why = Unknown, WhyKind
	}
	return a
}

func (e Entry) longTerm(now time.Time) Answer {
	skew := int64(Skew / time.Second)
	switch at := max(e.off, e.declined, e.refused); {
	case e.off > e.accepted:
		return e.no(WhyTurnedOff, at, now)
	case e.declined > e.accepted:
		return e.no(WhyDeclined, at, now)
	case e.refused > e.accepted+skew:
		return e.no(WhyRefused, at, now)
	case e.accepted > 0:
		return Answer{May: Yes, Why: WhyLongTerm, LongTerm: true}
	case e.uncounted:
		return Answer{May: Unknown, Why: WhyUncounted}
	}
	return Answer{May: Unknown, Why: WhyNoNews}
}

func (e Entry) oneTime(now time.Time) Answer {
	held, doubtful := e.reserved(now)
	left := max(e.credits-held, 0)
	switch {
	case !e.known():
		return Answer{May: Unknown, Why: WhyNoNews}
	case e.off > e.accepted:
		return e.no(WhyTurnedOff, max(e.off, e.refused), now)
	case left > doubtful:
		return Answer{May: Yes, Why: WhyCredits, Credits: left}
	case left > 0:
		return Answer{May: Unknown, Why: WhyUnanswered, Credits: left}
	case e.credits > 0:
		return Answer{May: Unknown, Why: WhySending}
	case e.uncounted:
		return Answer{May: Unknown, Why: WhyUncounted}
	case e.refusals > 0:
		return e.no(WhyRefused, e.refused, now)
	case e.accepted > 0:
		return Answer{May: No, Why: WhyNoCredit}
	}
	return e.no(WhyDeclined, max(e.declined, e.off), now)
}

// no is the answer after a refusal, unless that is too old.
func (e Entry) no(why Why, at int64, now time.Time) Answer {
	if e.recheckDue(at, now) {
		return Answer{May: Unknown, Why: WhyRecheck}
	}
	return Answer{May: No, Why: why}
}

// reserved returns how many reservations are in force, and how many have expired: the calls got no
// answer, or their workers died.
func (e Entry) reserved(now time.Time) (held, doubtful int) {
	for _, expires := range e.held {
		if expires > now.Unix() {
			held++
		} else {
			doubtful++
		}
	}
	return held, doubtful
}
