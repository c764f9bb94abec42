// Package audit records what operators and services change, and who did it: holds, releases, redrives,
// cancellations, campaigns and the like. The entries are in one stream in Redis, which keeps the last
// ten thousand or so.
//
//	audit.Record(ctx, rdb, log, audit.Entry{By: "key:crm", Via: audit.API, Action: audit.Hold, App: app})
//	entries, next, err := audit.List(ctx, rdb, audit.Query{Limit: 100})
package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

// Key is the key of the stream of all entries. An entry has one field, `entry`: JSON.
const Key = "wxcourier:audit"

// MaxEntries is the number of entries that are kept; Redis removes the oldest in blocks of about a
// hundred. An entry takes some 200 bytes.
const MaxEntries = 10_000

// maxText is the maximum length of a text of an entry, in bytes. Longer ones are cut.
const maxText = 500

// Action is what was done.
type Action string

// The actions.
const (
	Hold        Action = "hold"
	Release     Action = "release"
	Cancel      Action = "cancel" // a task
	CancelBatch Action = "cancel_batch"
	Redrive     Action = "redrive"
	Campaign    Action = "campaign"    // a table was sent
	Webhook     Action = "webhook"     // a webhook's position or dead letters were changed
	SignIn      Action = "sign_in"     // into the console
	Monitor     Action = "monitor"     // a change in the asynq web UI
	ClearQuota  Action = "clear_quota" // WeChat cleared its counts of the day
)

// Actions returns all actions.
func Actions() []Action {
	return []Action{Hold, Release, Cancel, CancelBatch, Redrive, Campaign, Webhook, SignIn, Monitor, ClearQuota}
}

// The values of Entry.Via.
const (
	API     = "api"
	Console = "console"
	CLI     = "cli"
)

// Entry is one change.
type Entry struct {
	ID     string    `json:"id"`  // set by List
	At     time.Time `json:"at"`  // set by List: the time of Redis
	By     string    `json:"by"`  // "key:<id>" or "<user>@<host>"
	Via    string    `json:"via"` // api, console, cli
	Action Action    `json:"action"`
	App    string    `json:"app,omitempty"`
	// Target is what was changed: a scope of holds, a task's id, a batch. It has no openid.
	Target string `json:"target,omitempty"`
	Count  int64  `json:"count,omitempty"` // of the tasks concerned
	Note   string `json:"note,omitempty"`  // a reason, a filter
}

// stored is an entry as the stream has it: the stream's id is its time.
type stored struct {
	By     string `json:"by"`
	Via    string `json:"via"`
	Action Action `json:"action"`
	App    string `json:"app,omitempty"`
	Target string `json:"target,omitempty"`
	Count  int64  `json:"count,omitempty"`
	Note   string `json:"note,omitempty"`
}

// Query selects entries.
type Query struct {
	Apps   func(app string) bool // nil: all, also entries without an app
	Before string                // of List: entries before the one with this id; "": the newest
	Since  time.Time             // entries from then on; zero: all
	Limit  int                   // 0: 100
	Match  func(Entry) bool      // nil: all
}

// Append records an entry.
func Append(ctx context.Context, rdb redis.UniversalClient, e Entry) error {
	text, err := json.Marshal(stored{
		By: cut(e.By), Via: cut(e.Via), Action: e.Action, App: cut(e.App), Target: cut(e.Target), Count: e.Count, Note: cut(e.Note),
	})
	if err != nil {
		return fmt.Errorf("encode the audit entry: %w", err)
	}
	err = rdb.XAdd(ctx, &redis.XAddArgs{Stream: Key, MaxLen: MaxEntries, Approx: true, Values: []any{"entry", text}}).Err()
	if err != nil {
		return fmt.Errorf("write the audit entry: %w", err)
	}
	return nil
}

// cut returns a text of at most maxText bytes.
func cut(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxText {
		return text
	}
	end := maxText
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// recordTimeout bounds how long a verb waits for its entry.
const recordTimeout = 3 * time.Second

// Record records an entry of a change that was made. The change does not depend on it: an error, such
// as that Redis is full, is only logged. The end of ctx does not stop it.
func Record(ctx context.Context, rdb redis.UniversalClient, log *slog.Logger, e Entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if err := Append(ctx, rdb, e); err != nil {
		log.Error("a change was made, and the audit has no entry of it", slog.String("action", string(e.Action)), slog.String("app", e.App),
			slog.String("by", e.By), slog.Any("err", err))
	}
}

// ByKey returns Entry.By of a change that a request with a key of the gateway made.
func ByKey(id string) string { return "key:" + id }

// HoldNote describes a hold for the audit.
func HoldNote(reason string, until time.Time) string {
	if until.IsZero() {
		return reason
	}
	return reason + ", until " + until.UTC().Format(time.RFC3339)
}

// ErrPosition means that Query.Before is not the id of an entry.
var ErrPosition = errors.New("audit: not the id of an entry")

// page is how many entries List reads at a time.
const page = 500

// List returns entries, the newest first, and the id for Query.Before of the next page, "" if there
// is none.
func List(ctx context.Context, rdb redis.UniversalClient, q Query) (entries []Entry, next string, err error) {
	end, start, limit := "+", q.start(), cmp.Or(q.Limit, 100)
	if q.Before != "" {
		if _, ok := timeOf(q.Before); !ok {
			return nil, "", ErrPosition
		}
		end = "(" + q.Before
	}
	entries = []Entry{}
	for {
		messages, err := rdb.XRevRangeN(ctx, Key, end, start, page).Result()
		if err != nil {
			return nil, "", fmt.Errorf("read the audit: %w", err)
		}
		for _, m := range messages {
			e, ok := parse(m)
			if !ok || !q.wants(e) {
				continue
			}
			if len(entries) == limit {
				return entries, entries[limit-1].ID, nil
			}
			entries = append(entries, e)
		}
		if len(messages) < page {
			return entries, "", nil
		}
		end = "(" + messages[len(messages)-1].ID
	}
}

// start returns the id from which on entries are wanted.
func (q Query) start() string {
	if q.Since.IsZero() {
		return "-"
	}
	return strconv.FormatInt(max(q.Since.UnixMilli(), 0), 10)
}

// Start is the position of After before all entries.
const Start = "0-0"

// After returns up to 500 entries after the one with an id, the oldest first, and the id for the next
// call. It does not use Before and Limit.
func After(ctx context.Context, rdb redis.UniversalClient, id string, q Query) (entries []Entry, last string, err error) {
	messages, err := rdb.XRangeN(ctx, Key, "("+id, "+", page).Result()
	if err != nil {
		return nil, id, fmt.Errorf("read the audit: %w", err)
	}
	for _, m := range messages {
		id = m.ID
		if e, ok := parse(m); ok && !e.At.Before(q.Since) && q.wants(e) {
			entries = append(entries, e)
		}
	}
	return entries, id, nil
}

func (q Query) wants(e Entry) bool {
	if q.Apps != nil && (e.App == "" || !q.Apps(e.App)) {
		return false
	}
	return q.Match == nil || q.Match(e)
}

// parse reads an entry of the stream.
func parse(m redis.XMessage) (Entry, bool) {
	text, _ := m.Values["entry"].(string)
	var s stored
	at, ok := timeOf(m.ID)
	if !ok || json.Unmarshal([]byte(text), &s) != nil {
		return Entry{}, false // of another version
	}
	return Entry{
		ID: m.ID, At: at, By: s.By, Via: s.Via, Action: s.Action, App: s.App, Target: s.Target, Count: s.Count, Note: s.Note,
	}, true
}

// timeOf returns the time of an id of the stream.
func timeOf(id string) (time.Time, bool) {
	first, second, found := strings.Cut(id, "-")
	ms, err := strconv.ParseUint(first, 10, 63)
	_, err2 := strconv.ParseUint(second, 10, 64)
	return time.UnixMilli(int64(ms)).UTC(), found && err == nil && err2 == nil
}
