package ledger

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
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
// A task may occur several times: Mark also adds one that is known already, since a command of its own
// in the same pipeline takes half of the time that it takes in the script. Failing to add a task is
// no error: what Redis cannot add, because another program has overwritten the list, is not found.

// openidBuckets is the number of lists of an app and a day. A list has 40,000 elements where an app
// has ten million tasks a day, which Redis returns in some milliseconds. With more lists, fewer of the
// tasks that are marked together share a command, and those of apps with some thousand tasks a day
// would take more memory than their elements.
const openidBuckets = 256

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

// openidPush adds tasks to a list of the index.
type openidPush struct {
	app      string
	day      int64
	list     string
	elements []any // strings
	requests []int // their indexes
	reply    *redis.IntCmd
}

// newOpenIDPush returns what adds a task to the lists of a day.
func newOpenIDPush(app, id, openid string, day int64) openidPush {
	hash, bucket := openidHash(openid)
	return openidPush{app: app, day: day, list: openidsKey(app, day, bucket), elements: []any{hash + id}}
}

// created reports whether the push has created its list.
func (p *openidPush) created() bool { return p.reply.Val() == int64(len(p.elements)) }

// openidPushes returns what adds the tasks of the requests with these indexes: one command for each
// list.
func (l *Ledger) openidPushes(requests []MarkRequest, indexes []int) []openidPush {
	if !l.policy.IndexOpenIDs {
		return nil
	}
	type list struct {
		app    string
		day    int64
		bucket int
	}
	var pushes []openidPush
	at := make(map[list]int, min(len(indexes), openidBuckets))
	for _, i := range indexes {
		m := &requests[i]
		if m.Receiver == "" {
			continue
		}
		hash, bucket := openidHash(m.Receiver)
		to := list{m.App, openidDay(m.due()), bucket}
		n, known := at[to]
		if !known {
			n = len(pushes)
			at[to] = n
			pushes = append(pushes, openidPush{app: to.app, day: to.day, list: openidsKey(to.app, to.day, bucket)})
		}
		pushes[n].elements = append(pushes[n].elements, hash+m.ID)
		pushes[n].requests = append(pushes[n].requests, i)
	}
	return pushes
}

// noteNewLists sets when lists expire that the pushes have created, and notes their days. An app creates
// openidBuckets of them in a day. What a producer does not do, because it dies here, TendOpenIDs does.
func (l *Ledger) noteNewLists(ctx context.Context, pushes []openidPush) {
	var first []openidPush
	for _, p := range pushes {
		if p.created() {
			first = append(first, p)
		}
	}
	if len(first) == 0 {
		return
	}
	type days struct {
		app string
		day int64
	}
	noted := make(map[days]bool)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	_, _ = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, p := range first {
			expiry := l.openidExpiry(p.day)
			pipe.ExpireAt(ctx, p.list, time.Unix(expiry, 0))
			if d := (days{p.app, p.day}); !noted[d] {
				noted[d] = true
				pipe.ZAddNX(ctx, openidDaysKey(p.app), redis.Z{Score: float64(expiry), Member: p.day})
				pipe.ZRemRangeByScore(ctx, openidDaysKey(p.app), "-inf", now)
			}
		}
		return nil
	})
}

// reindexAfter is how long a task has been due when Open adds it to the index again.
const reindexAfter = 12 * time.Hour

// reindexTimeout bounds what Open does for the index.
const reindexTimeout = time.Second

// indexOpened adds a task that was opened to the index, if its producer did not, or did so long ago. It
// takes a round trip, which other tasks do not have.
func (l *Ledger) indexOpened(ctx context.Context, ref Ref, o OpenRequest, opened OpenResult) {
	if !l.policy.IndexOpenIDs || o.Receiver == "" || opened.Admission != Proceed || opened.Attempts != 1 {
		return
	}
	due := opened.Enqueued
	if o.ProcessAt.After(due) {
		due = o.ProcessAt
	}
	if o.Marked && opened.Since.Sub(due) < reindexAfter {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reindexTimeout)
	defer cancel()
	l.index(ctx, newOpenIDPush(ref.App, ref.ID, o.Receiver, openidDay(opened.Since)))
}

// index adds a task to the index.
func (l *Ledger) index(ctx context.Context, push openidPush) {
	push.reply = l.rdb.RPush(ctx, push.list, push.elements...)
	l.noteNewLists(ctx, []openidPush{push})
}

// dropOthers removes from the index what was added for requests whose id another task has, which may be
// for another receiver.
func (l *Ledger) dropOthers(ctx context.Context, pushes []openidPush, results []MarkResult) {
	_, _ = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error { // mostly without a command: none is sent
		for _, p := range pushes {
			for i, request := range p.requests {
				if results[request].Differs {
					pipe.LRem(ctx, p.list, -1, p.elements[i])
				}
			}
		}
		return nil
	})
}

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
	tended bool  // TendOpenIDs has set it: the score has a half second
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
				all[app] = append(all[app], indexDay{day, int64(z.Score), z.Score != math.Trunc(z.Score)})
			}
		}
	}
	return all, nil
}
