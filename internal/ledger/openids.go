package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The index of openids finds the tasks for a receiver. It has lists, one for each app, day and
// bucket: the hash of the openid determines the bucket. An element of a list is the hash, which has
// openidHashSize bytes, and the task's id. The openid itself is not in the index.
//
// Mark adds a task to the list of the day on which it is due. Its lists expire Policy.Retention and a
// day after that day. Open adds a task again, to the list of the current day, at its first run and
// the first one after a redrive, if it has been due for more than 12 hours; so a task that ends within
// a day and a half of that run is found for as long as its record is kept. Tasks that a plain
// asynq.Client enqueued are added there for the first time. TendOpenIDs keeps lists for longer whose
// tasks wait.
//
// A task may occur several times. Failing to add a task is no error: what Redis cannot add, because
// another program has overwritten the list, is not found.

// openidBuckets is the number of lists of an app and a day. A list has 10,000 elements where an app
// has ten million tasks a day, which Redis returns in some 2 ms; with more lists, those of apps with
// some thousand tasks a day would take more memory than their elements.
const openidBuckets = 1024

// openidHashSize is the number of bytes of an openid's hash in the index.
const openidHashSize = 8

// openidSlack is how much longer than Policy.Retention the lists of a day are kept.
const openidSlack = 24 * time.Hour

const secondsPerDay = int64(24 * time.Hour / time.Second)

// openidHash returns the hash of an openid, and its bucket.
func openidHash(openid string) (hash string, bucket int) {
	sum := sha256.Sum256([]byte(openid))
	return string(sum[:openidHashSize]), int(binary.BigEndian.Uint16(sum[openidHashSize:])) % openidBuckets
}

// openidDay returns the day of a time: days since 1970, UTC.
func openidDay(t time.Time) int64 { return max(t.Unix(), 0) / secondsPerDay }

// openidExpiry returns when the lists of a day expire, in seconds since 1970.
func (l *Ledger) openidExpiry(day int64) int64 {
	return (day+1)*secondsPerDay + int64((l.policy.Retention+openidSlack)/time.Second)
}

// indexLua defines index, which adds an element to a list of the index of openids; expiry is in seconds
// since 1970. The first element of a list also notes its day, and removes the days that have passed.
const indexLua = `
local function index(list, days, element, day, expiry)
	if redis.pcall("RPUSH", list, element) ~= 1 then return end
	redis.pcall("EXPIREAT", list, expiry)
	redis.pcall("ZADD", days, expiry, day)
	redis.pcall("ZREMRANGEBYSCORE", days, "-inf", redis.call("TIME")[1])
end
`

// OpenIDTask is a task that the index of openids has.
type OpenIDTask struct {
	App, ID string
	day     int64
	place   int // in its list
}

// Place returns the task's place among those that FindOpenID returns, for After.
func (t OpenIDTask) Place() string {
	return strconv.FormatInt(t.day, 10) + "." + strconv.Itoa(t.place) + "." + t.App
}

// After reports whether FindOpenID returns the task after the one with a place. It is true for "", and
// ok is false for a text that is no place.
func (t OpenIDTask) After(place string) (after, ok bool) {
	if place == "" {
		return true, true
	}
	parts := strings.SplitN(place, ".", 3)
	if len(parts) != 3 {
		return false, false
	}
	day, errDay := strconv.ParseInt(parts[0], 10, 64)
	at, errPlace := strconv.Atoi(parts[1])
	return compareOpenIDTasks(OpenIDTask{App: parts[2], day: day, place: at}, t) < 0, errDay == nil && errPlace == nil
}

// compareOpenIDTasks orders tasks as FindOpenID returns them.
func compareOpenIDTasks(a, b OpenIDTask) int {
	return cmp.Or(cmp.Compare(b.day, a.day), cmp.Compare(b.place, a.place), cmp.Compare(a.App, b.App))
}

// FindOpenID returns the tasks of some apps that are for an openid, by the day on which they are due or
// were run, and then by the time of enqueuing, the newest first; each once. The record of a task may
// have expired. It takes two round trips.
func (l *Ledger) FindOpenID(ctx context.Context, apps []string, openid string) ([]OpenIDTask, error) {
	days, err := l.openidDays(ctx, apps)
	if err != nil {
		return nil, err
	}
	hash, bucket := openidHash(openid)
	type read struct {
		app     string
		day     int64
		members *redis.StringSliceCmd
	}
	var reads []read
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, app := range apps {
			for _, d := range days[app] {
				reads = append(reads, read{app, d.day, p.LRange(ctx, openidsKey(app, d.day, bucket), 0, -1)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the index of openids: %w", err)
	}
	var found []OpenIDTask
	for _, r := range reads {
		for place, element := range r.members.Val() {
			if len(element) > openidHashSize && element[:openidHashSize] == hash {
				found = append(found, OpenIDTask{App: r.app, ID: element[openidHashSize:], day: r.day, place: place})
			}
		}
	}
	slices.SortFunc(found, compareOpenIDTasks)
	type id struct{ app, id string }
	seen := make(map[id]bool, len(found))
	return slices.DeleteFunc(found, func(t OpenIDTask) bool {
		repeated := seen[id{t.App, t.ID}]
		seen[id{t.App, t.ID}] = true
		return repeated
	}), nil
}

// indexDay is a day of the index of openids of an app.
type indexDay struct {
	day    int64
	expiry int64 // of its lists, seconds since 1970
}

// openidDays returns the days of the indexes of some apps.
func (l *Ledger) openidDays(ctx context.Context, apps []string) (map[string][]indexDay, error) {
	replies := make([]*redis.ZSliceCmd, len(apps))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			replies[i] = p.ZRangeWithScores(ctx, openidDaysKey(app), 0, -1)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the days of the index of openids: %w", err)
	}
	all := make(map[string][]indexDay, len(apps))
	for i, app := range apps {
		for _, z := range replies[i].Val() {
			text, _ := z.Member.(string)
			if day, err := strconv.ParseInt(text, 10, 64); err == nil {
				all[app] = append(all[app], indexDay{day, int64(z.Score)})
			}
		}
	}
	return all, nil
}
