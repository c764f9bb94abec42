package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/internal/taskstate"
	"github.com/wxcourier/wxcourier/tasks"
)

// Hours are the times of day at which an app's tasks may be sent, in Asia/Shanghai:
// "08:00-22:00" from eight until just before ten, "22:00-02:00" over midnight,
// "00:00-24:00" always. The key is a task type ("send:subscribe"), a kind ("send:*") or
// "*" for all types; the most specific key that matches a type applies. Types that no key
// matches are sent at any time.
type Hours map[string]string

// AnyType is the key of [Hours] that matches every type.
const AnyType = "*"

// HoursKeys returns the keys that [Hours] may have: the types, the kinds and [AnyType].
func HoursKeys() []string {
	var keys []string
	for _, spec := range tasks.Catalog() {
		keys = append(keys, spec.Type)
	}
	for _, spec := range tasks.Catalog() {
		if kind := kindKey(spec.Type); !slices.Contains(keys, kind) {
			keys = append(keys, kind)
		}
	}
	return append(keys, AnyType)
}

// kindKey returns the key for all types of the kind of typ, such as "send:*".
func kindKey(typ string) string {
	kind, _, _ := strings.Cut(typ, ":")
	return kind + ":*"
}

// Validate reports all mistakes, in the order of the keys: a key that matches no type (with
// the most similar key), and a value that is no span of the day.
func (h Hours) Validate() error {
	known := HoursKeys()
	var errs []error
	for _, key := range h.Keys() {
		if !slices.Contains(known, key) {
			hint := ""
			if name, ok := suggest.Name(key, known); ok {
				hint = fmt.Sprintf("; the nearest is %q", name)
			}
			errs = append(errs, fmt.Errorf("%q: no such task type%s (there are %s)", key, hint, strings.Join(known, ", ")))
		}
		if _, err := parseDaily(h[key]); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

// Keys returns the sorted keys.
func (h Hours) Keys() []string {
	keys := make([]string, 0, len(h))
	for key := range h {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// NextOpen reports whether a type may be sent at now, and if not, when its hours open next. A
// key may stand in place of the type. The hours must be valid.
func (h Hours) NextOpen(typ string, now time.Time) (at time.Time, open bool) {
	d, limited := h.of(typ)
	if !limited {
		return now, true
	}
	return d.opens(now)
}

// of returns the most specific hours of a type.
func (h Hours) of(typ string) (d daily, limited bool) {
	if len(h) == 0 {
		return daily{}, false
	}
	for _, key := range []string{typ, kindKey(typ), AnyType} {
		if text, ok := h[key]; ok {
			d, err := parseDaily(text)
			return d, err == nil
		}
	}
	return daily{}, false
}

// daily is a span of each day. A span over midnight has to < from.
type daily struct{ from, to int } // minutes since midnight; 0 ≤ from < 1440, 0 < to ≤ 1440

const dayMinutes = 24 * 60

// parseDaily parses "08:00-22:00".
func parseDaily(text string) (daily, error) {
	begin, end, found := strings.Cut(text, "-")
	if !found {
		return daily{}, fmt.Errorf("%q is not a span of the day; write it like 08:00-22:00", text)
	}
	from, err := parseMinute(strings.TrimSpace(begin))
	if err != nil {
		return daily{}, err
	}
	to, err := parseMinute(strings.TrimSpace(end))
	if err != nil {
		return daily{}, err
	}
	switch {
	case from == to:
		return daily{}, fmt.Errorf("%q opens and closes at the same minute; 00:00-24:00 is always", text)
	case from == dayMinutes:
		return daily{}, fmt.Errorf("%q opens at 24:00, the end of the day; its beginning is 00:00", text)
	case to == 0:
		to = dayMinutes // midnight, as an end
	}
	return daily{from, to}, nil
}

func parseMinute(text string) (int, error) {
	hour, minute, found := strings.Cut(text, ":")
	if !found || len(hour) != 2 || len(minute) != 2 {
		return 0, fmt.Errorf("%q is not a time of the day; write it with two digits each, like 08:00", text)
	}
	h, errH := strconv.ParseUint(hour, 10, 8)
	m, errM := strconv.ParseUint(minute, 10, 8)
	switch {
	case errH != nil || errM != nil:
		return 0, fmt.Errorf("%q is not a time of the day; write it with two digits each, like 08:00", text)
	case m > 59 || h*60+m > dayMinutes:
		return 0, fmt.Errorf("%q is not a time of the day; it must be from 00:00 to 24:00", text)
	}
	return int(h*60 + m), nil
}

// opens reports whether now is within the span, and if not, when the span begins next.
func (d daily) opens(now time.Time) (at time.Time, open bool) {
	local := now.In(calendar.Shanghai())
	minute := local.Hour()*60 + local.Minute()
	if d.from < d.to {
		open = d.from <= minute && minute < d.to
	} else {
		open = d.from <= minute || minute < d.to
	}
	if open {
		return now, true
	}
	day := local.Day()
	if minute >= d.from {
		day++ // the span of today has ended
	}
	return time.Date(local.Year(), local.Month(), day, 0, d.from, 0, 0, local.Location()), false
}

// outsideHours is the reason for handing a task back, and a log message.
const outsideHours = taskstate.OutsideHours

// hoursWait reports whether a task must wait for its app's hours, and how long: until they
// open, or until the task expires, so that its outcome is recorded at that time. A task that
// has expired does not wait.
func (d *deliverer) hoursWait(j *job) (wait time.Duration, closed bool) {
	if j.IgnoreHours {
		return 0, false
	}
	app, ok := d.apps.get(j.App)
	if !ok {
		app = j.app // it left while the call was prepared: the call goes on
	}
	now := d.now()
	at, open := app.Hours.NextOpen(j.Type, now)
	expires := !j.NotAfter.IsZero() && j.NotAfter.Before(at)
	if open || expires && now.After(j.NotAfter) {
		return 0, false
	}
	if d.loggedHours.shouldLog(laneKey{j.App, j.Type}, at) {
		d.log.Info(outsideHours, slog.String("app", j.App), slog.String("type", j.Type), slog.Time("until", at))
	}
	if expires {
		at = j.NotAfter.Add(time.Nanosecond)
	}
	return at.Sub(now), true
}

// loggedHours remembers for which opening time the wait of a lane was logged, so that it is
// logged once and not for each task.
type loggedHours struct {
	mu    sync.Mutex
	until map[laneKey]time.Time // guarded by mu
}

// shouldLog reports whether a wait until this opening time was not logged yet.
func (n *loggedHours) shouldLog(key laneKey, until time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.until[key].Equal(until) {
		return false
	}
	if n.until == nil {
		n.until = make(map[laneKey]time.Time)
	}
	n.until[key] = until
	return true
}
