package hold

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// WholeApp is the scope of a hold on all types of an app.
const WholeApp = "*"

// ReasonUnauthorized is the reason of a hold on an app whose account has not authorized the service
// provider that calls for it, or has taken that back.
const ReasonUnauthorized = "unauthorized"

const templatePrefix = "template:"

// TemplateScope returns the scope of a hold on one message template. Such a hold refuses no
// permits, since the limiter does not know the task: ask [Templates] before the call.
func TemplateScope(id string) string { return templatePrefix + id }

// IsTemplate reports whether a scope is that of a template.
func IsTemplate(scope string) bool { return strings.HasPrefix(scope, templatePrefix) }

// ReplicaPrefix is the prefix of By in holds that replicas set. All other holds are set by
// operators; while one is in force, a replica's hold does not replace it.
const ReplicaPrefix = "worker "

// Retention is how long the record of an ended hold is kept. A hold of the same reason that is
// set within it keeps the first Since and adds one to Tries.
const Retention = time.Hour

// Hold stops calls until a time, or until it is lifted. Its record in Redis is the hash
// wxcourier:{<app>}:hold:<scope> with the fields of the JSON names below, without app and
// scope. There since and until are milliseconds since 1970, and an until of 0 means until
// lifted. The key has no expiry: a hold has ended once until has passed.
type Hold struct {
	App    string    `json:"app"`
	Scope  string    `json:"scope"`          // WholeApp, a task type, or a TemplateScope
	Reason string    `json:"reason"`         // a word for people and metrics, such as quota_day
	Code   int       `json:"code"`           // WeChat's errcode, 0 when none led to it
	Since  time.Time `json:"since"`          // when this reason first applied; zero in Store.Set means now
	Until  time.Time `json:"until,omitzero"` // when it ends by itself; zero: when it is lifted
	By     string    `json:"by"`             // the replica or person that set it
	Tries  int       `json:"tries"`          // how often it was set after it had ended, from 1; ignored by Store.Set
}

// OurCount is By of a limit that is spent by our own count. It is shown like a hold, and is none:
// it has no record, the limiter alone refuses the permits, and it ends when the count or the limit
// changes. Package inspect finds them.
const OurCount = "our count"

const bulkSuffix = ":bulk"

// BulkScope returns the scope of the bulk tasks of a type. Only limits that are spent by our own
// count have it.
func BulkScope(typ string) string { return typ + bulkSuffix }

// ParseBulk returns the type of a BulkScope.
func ParseBulk(scope string) (typ string, ok bool) { return strings.CutSuffix(scope, bulkSuffix) }

// Stops reports whether the hold stops an app's tasks of a type: it is one on the type or on
// the whole app.
func (h Hold) Stops(app, typ string) bool {
	return h.App == app && (h.Scope == WholeApp || h.Scope == typ)
}

// openBefore is how long before a hold's end its lanes open: their gates wait for the end as for
// any permit.
const openBefore = 2 * time.Second

// closesLanes reports whether a hold ends later than openBefore, so that its lanes close and
// their queues are shown as paused.
func (h Hold) closesLanes(now time.Time) bool {
	return h.Until.IsZero() || h.Until.Sub(now) > openBefore
}

func (h Hold) activeAt(now time.Time) bool { return h.Until.IsZero() || h.Until.After(now) }

// Key is the key of a hold's record.
func Key(app, scope string) string { return "wxcourier:{" + app + "}:hold:" + scope }

// indexKey is the key of the private set of an app's scopes with a record. It shares the app's
// hash tag.
func indexKey(app string) string { return "wxcourier:{" + app + "}:holds" }

const messagePrefix = "hold:"

// Message is published on ledger.WakeChannel after every change of an app's holds: all replicas
// then read them again.
func Message(app string) string { return messagePrefix + app }

// ParseMessage returns the app of a message; ok is false for a message about something else.
func ParseMessage(message string) (app string, ok bool) {
	return strings.CutPrefix(message, messagePrefix)
}

// Decode decodes the fields and values of a hold's record, as HGETALL returns them to a script.
func Decode(app, scope string, reply []any) (Hold, error) {
	f := make(map[string]string, len(reply)/2)
	for i := 0; i+1 < len(reply); i += 2 {
		name, ok1 := reply[i].(string)
		value, ok2 := reply[i+1].(string)
		if !ok1 || !ok2 {
			return Hold{}, fmt.Errorf("script reply: %T, %T where a field was expected", reply[i], reply[i+1])
		}
		f[name] = value
	}
	var errs []error
	number := func(name string) int64 {
		n, err := strconv.ParseInt(f[name], 10, 64)
		if err != nil {
			errs = append(errs, fmt.Errorf("hold %s of %s: field %s: %w", scope, app, name, err))
		}
		return n
	}
	h := Hold{
		App: app, Scope: scope, Reason: f["reason"], By: f["by"],
		Code: int(number("code")), Tries: int(number("tries")),
		Since: fromMillis(number("since")), Until: fromMillis(number("until")),
	}
	return h, errors.Join(errs...)
}

// millis converts a time for a hold's record, rounded up so that a hold never ends early. The
// zero time is 0.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// fromMillis is the inverse of millis.
func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}
