// Package series counts the outcomes of tasks over time: by minute for two days and by hour for 35
// days, each by app, task type, outcome and errcode; and receipts of accepted messages. The counts are for charts and lists of failures;
// the ledger has the exact ones.
//
// An outcome counts when it was recorded, by the clock of Redis. A task counts once for each outcome
// that was recorded of it: one that was redriven, or whose outcome superseded "unknown", counts again,
// as in the metric wxcourier_outcomes_total; nothing is taken back from an earlier minute.
//
//	recorder := series.NewRecorder(rdb, log)
//	go recorder.Run(ctx)
//	recorder.Add(app, "send:subscribe", "refused", 43101) // in memory; in Redis within a second
//	recorder.AddReceipt(app, "send:subscribe", "delivered", sent) // counts in the step of the send
//	points, err := series.Read(ctx, rdb, series.Query{Apps: apps, From: hourAgo, To: now, Step: series.Minute})
package series

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Step is the resolution of a count.
type Step time.Duration

// The steps.
const (
	Minute = Step(time.Minute) // kept for 48 hours
	Hour   = Step(time.Hour)   // kept for 35 days
)

// Keep returns how long the points of a step are kept.
func (s Step) Keep() time.Duration {
	if s == Hour {
		return 35 * 24 * time.Hour
	}
	return 48 * time.Hour
}

// span is the time that one hash holds: so many steps fit into the short form of a hash, a listpack,
// of up to 512 fields (hash-max-listpack-entries), which takes some 35 bytes a field.
func (s Step) span() time.Duration {
	if s == Hour {
		return 24 * time.Hour
	}
	return 10 * time.Minute
}

// name is the step's part of a key.
func (s Step) name() string {
	if s == Hour {
		return "h"
	}
	return "m"
}

// OtherErrCode is the errcode of outcomes whose errcode is not kept, since the app had too many kinds
// of outcomes in a short time. WeChat has no such code.
const OtherErrCode = -999_999

// maxKinds is how many kinds of outcomes (type, outcome, errcode) of an app are kept in one step, on
// average from the begin of the hash on. Those of further errcodes count under OtherErrCode.
const maxKinds = 50

// seriesKey returns the key of the hash of an app's outcomes in one span. A field is
// `<step in the span>|<type>|<outcome>|<errcode>`.
func seriesKey(app string, step Step, at time.Time) string {
	return spanKey(app, step.name(), step, at)
}

// receiptsKey returns the key of the hash of an app's receipts in one span; a field is as in seriesKey,
// with the receipt in place of the outcome and errcode 0. They have a hash of their own, so that a
// process of an older version does not take them for outcomes.
func receiptsKey(app string, step Step, at time.Time) string {
	return spanKey(app, "r"+step.name(), step, at)
}

func spanKey(app, name string, step Step, at time.Time) string {
	n := at.Unix() / int64(step.span()/time.Duration(time.Second))
	return "wxcourier:{" + app + "}:series:" + name + ":" + strconv.FormatInt(n, 10)
}

// Point is the number of tasks that ended the same way in one step.
type Point struct {
	App     string    `json:"app"`
	At      time.Time `json:"at"` // start of the step
	Type    string    `json:"type"`
	Outcome string    `json:"outcome"`
	ErrCode int       `json:"errcode"`
	Count   int64     `json:"count"`
}

// Query selects points.
type Query struct {
	Apps     []string
	From, To time.Time // steps that start in [From, To)
	Step     Step
	Match    func(Point) bool // nil: all
	Limit    int              // of points, see ErrTooMany; 0: any number

	receipts bool // receipts are read in place of outcomes
}

// key returns the key of a hash that the query reads.
func (q Query) key(app string, at time.Time) string {
	if q.receipts {
		return receiptsKey(app, q.Step, at)
	}
	return seriesKey(app, q.Step, at)
}

// ErrTooMany means that a query has more points than its Limit, or would read more than maxHashes.
var ErrTooMany = errors.New("series: too many points")

// maxHashes is how many hashes a query with a Limit reads: 8 hours of 200 apps by minute, or 35 days
// by hour.
const maxHashes = 10_000

// readChunk is the number of hashes that one round trip reads.
const readChunk = 2000

// hashOf is a hash that Read reads.
type hashOf struct {
	app   string
	start time.Time // of its span
	reply *redis.MapStringStringCmd
}

// Read returns the points of a query, sorted by time, app, type, outcome and errcode. It takes one
// round trip for each 2,000 hashes: an app has one for ten minutes, or for a day by hour. Time before
// that for which points are kept is not read.
func Read(ctx context.Context, rdb redis.UniversalClient, q Query) ([]Point, error) {
	if q.Step != Minute && q.Step != Hour {
		return nil, errors.New("series: the step must be a minute or an hour")
	}
	now := time.Now()
	if kept := now.Add(-q.Step.Keep() - q.Step.span()); q.From.Before(kept) {
		q.From = kept
	}
	if latest := now.Add(q.Step.span()); q.To.After(latest) { // Redis' clock may be ahead
		q.To = latest
	}
	hashes := q.hashes()
	if q.Limit > 0 && len(hashes) > maxHashes {
		return nil, ErrTooMany
	}
	points := []Point{}
	for some := range slices.Chunk(hashes, readChunk) {
		_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, h := range some {
				some[i].reply = p.HGetAll(ctx, q.key(h.app, h.start))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the outcomes: %w", err)
		}
		for _, h := range some {
			points = q.add(points, h)
		}
		if q.Limit > 0 && len(points) > q.Limit {
			return nil, ErrTooMany
		}
	}
	slices.SortFunc(points, compare)
	return points, nil
}

// compare orders points. There may be a hundred thousand: it compares no more than it must, unlike
// cmp.Or.
func compare(a, b Point) int {
	if n := a.At.Compare(b.At); n != 0 {
		return n
	}
	if n := strings.Compare(a.App, b.App); n != 0 {
		return n
	}
	if n := strings.Compare(a.Type, b.Type); n != 0 {
		return n
	}
	if n := strings.Compare(a.Outcome, b.Outcome); n != 0 {
		return n
	}
	return cmp.Compare(a.ErrCode, b.ErrCode)
}

// hashes returns the hashes that may have points of the query.
func (q Query) hashes() (all []hashOf) {
	span := q.Step.span()
	for at := q.From.UTC().Truncate(span); at.Before(q.To); at = at.Add(span) {
		for _, app := range q.Apps {
			all = append(all, hashOf{app: app, start: at})
		}
	}
	return all
}

// add appends the points of a hash that are in the query.
func (q Query) add(points []Point, h hashOf) []Point {
	for field, value := range h.reply.Val() {
		p, offset, ok := parseField(field)
		count, err := strconv.ParseInt(value, 10, 64)
		p.App, p.At, p.Count = h.app, h.start.Add(time.Duration(offset)*time.Duration(q.Step)), count
		if ok && err == nil && !p.At.Before(q.From) && p.At.Before(q.To) && (q.Match == nil || q.Match(p)) {
			points = append(points, p)
		}
	}
	return points
}

// parseField reads a field of a hash.
func parseField(field string) (p Point, offset int, ok bool) {
	step, rest, _ := strings.Cut(field, "|")
	typ, rest, _ := strings.Cut(rest, "|")
	outcome, code, _ := strings.Cut(rest, "|")
	offset, err := strconv.Atoi(step)
	p.Type, p.Outcome = typ, outcome
	if err == nil {
		p.ErrCode, err = strconv.Atoi(code)
	}
	return p, offset, err == nil
}
