package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
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
	return splitPerson(sum[:personSize])
}

// personSize is the number of bytes of a hash from which both the one of the index and the bucket come.
const personSize = openidHashSize + 2

func splitPerson(sum []byte) (hash string, bucket int) {
	return string(sum[:openidHashSize]), int(binary.BigEndian.Uint16(sum[openidHashSize:])) % openidBuckets
}

// PersonOf returns a hash of an openid that FindPerson takes in its place: 20 hexadecimal digits. The
// openid cannot be told from it, so it may be in a URL.
func PersonOf(openid string) string {
	sum := sha256.Sum256([]byte(openid))
	return hex.EncodeToString(sum[:personSize])
}

// ValidPerson reports whether a text may be the hash of an openid.
func ValidPerson(person string) bool {
	sum, err := hex.DecodeString(person)
	return err == nil && len(sum) == personSize
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
	return l.FindPerson(ctx, apps, PersonOf(openid))
}

var errPerson = errors.New("ledger: not the hash of an openid")

// FindPerson is FindOpenID for the hash of an openid, see PersonOf.
func (l *Ledger) FindPerson(ctx context.Context, apps []string, person string) ([]OpenIDTask, error) {
	sum, err := hex.DecodeString(person)
	if err != nil || len(sum) != personSize {
		return nil, errPerson
	}
	days, err := l.openidDays(ctx, apps)
	if err != nil {
		return nil, err
	}
	hash, bucket := splitPerson(sum)
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

// A day's lists are kept for longer while one of so many of its tasks waits: they then take less memory
// than what waits.
const openidTended = 20

// TendOpenIDs extends the lists of the past days of an app's index of openids: those that a producer
// with a shorter retention has made, and those of whose tasks many wait. waiting is the number of the
// app's tasks without an outcome by the day on which they were enqueued, see Day, since their marks do
// not have the day on which they are due. It returns the number
// of commands sent. Call it at least once in half a day.
func (l *Ledger) TendOpenIDs(ctx context.Context, app string, waiting map[int64]int, now time.Time) (commands int, err error) {
	if !l.policy.IndexOpenIDs {
		return 0, nil
	}
	days, err := l.openidDays(ctx, []string{app})
	if commands++; err != nil {
		return commands, err
	}
	for _, d := range days[app] {
		if d.day >= openidDay(now) {
			continue
		}
		expiry := max(d.expiry, l.openidExpiry(d.day))
		kept := now.Add(l.policy.Retention + openidSlack).Unix()
		if waiting[d.day] > 0 && kept-expiry >= int64(openidSlack/time.Second)/2 {
			elements, err := l.sizeOfDay(ctx, app, d.day)
			if commands += openidSamples; err != nil {
				return commands, err
			}
			if waiting[d.day]*openidTended >= elements {
				expiry = kept
			}
		}
		if expiry == d.expiry {
			continue
		}
		n, err := l.extendDay(ctx, app, d.day, expiry)
		if commands += n; err != nil {
			return commands, err
		}
	}
	return commands, nil
}

// Day returns the day of a time for TendOpenIDs.
func Day(t time.Time) int64 { return openidDay(t) }

// openidSamples is how many lists of a day are counted.
const openidSamples = 16

// sizeOfDay estimates the number of elements in the lists of a day.
func (l *Ledger) sizeOfDay(ctx context.Context, app string, day int64) (int, error) {
	lengths := make([]*redis.IntCmd, openidSamples)
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range lengths {
			lengths[i] = p.LLen(ctx, openidsKey(app, day, i))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count the index of openids: %w", err)
	}
	elements := 0
	for _, length := range lengths {
		elements += int(length.Val()) * openidBuckets / openidSamples
	}
	return elements, nil
}

// extendDayScript sets when lists of the index of openids expire.
//
// KEYS lists, the last one the days of the index. ARGV[1] expiry in seconds since 1970, ARGV[2] day, ""
// before the last call for it
var extendDayScript = redis.NewScript(`
for i = 1, #KEYS - 1 do redis.call("EXPIREAT", KEYS[i], ARGV[1]) end
if ARGV[2] ~= "" then redis.call("ZADD", KEYS[#KEYS], "XX", ARGV[1], ARGV[2]) end
return 1
`)

// extendDay sets when the lists of a day expire. It returns the number of commands sent.
func (l *Ledger) extendDay(ctx context.Context, app string, day, expiry int64) (commands int, err error) {
	const perCall = 128
	for from := 0; from < openidBuckets; from += perCall {
		keys, done := make([]string, 0, perCall+1), ""
		for bucket := from; bucket < from+perCall; bucket++ {
			keys = append(keys, openidsKey(app, day, bucket))
		}
		if from+perCall == openidBuckets {
			done = strconv.FormatInt(day, 10)
		}
		err := extendDayScript.Run(ctx, l.rdb, append(keys, openidDaysKey(app)), expiry, done).Err()
		if commands++; err != nil {
			return commands, fmt.Errorf("extend the index of openids: %w", err)
		}
	}
	return commands, nil
}
