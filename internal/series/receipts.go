package series

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// The names of receipts, and of the outcome that they follow, as the recorder is given them.
const (
	accepted  = "accepted"
	delivered = "delivered"
	blocked   = "blocked"
	failed    = "failed"
)

// ReceiptPoint is what became of the messages of one step that WeChat accepted.
type ReceiptPoint struct {
	App       string    `json:"app"`
	At        time.Time `json:"at"` // start of the step in which the messages were accepted
	Type      string    `json:"type"`
	Accepted  int64     `json:"accepted"`
	Delivered int64     `json:"delivered"`
	Blocked   int64     `json:"blocked"`
	Failed    int64     `json:"failed"`
	// Without is the number of messages whose receipts have not come. Most come within seconds: it is
	// of little meaning for the last minutes.
	Without int64 `json:"without"`
}

// ReadReceipts returns what became of the accepted messages of some types, sorted by time, app and
// type. It reads the hashes of Read and as many of receipts; the Match of the query is not used.
func ReadReceipts(ctx context.Context, rdb redis.UniversalClient, q Query, types []string) ([]ReceiptPoint, error) {
	sent, came := q, q
	sent.Match = func(p Point) bool { return p.Outcome == accepted && slices.Contains(types, p.Type) }
	came.Match, came.receipts = func(p Point) bool { return slices.Contains(types, p.Type) }, true
	messages, err := Read(ctx, rdb, sent)
	if err != nil {
		return nil, err
	}
	receipts, err := Read(ctx, rdb, came)
	if err != nil {
		return nil, err
	}
	return joinReceipts(messages, receipts), nil
}

// joinReceipts returns the points of messages, with their receipts. A receipt of a step without
// messages, since the process that counted those was killed, counts as a message too.
func joinReceipts(messages, receipts []Point) []ReceiptPoint {
	all := append(slices.Clone(messages), receipts...)
	slices.SortStableFunc(all, compareStep)
	points := []ReceiptPoint{}
	for _, p := range all {
		if n := len(points); n == 0 || !points[n-1].at(p) {
			points = append(points, ReceiptPoint{App: p.App, At: p.At, Type: p.Type})
		}
		r := &points[len(points)-1]
		switch p.Outcome {
		case accepted:
			r.Accepted += p.Count
		case delivered:
			r.Delivered += p.Count
		case blocked:
			r.Blocked += p.Count
		case failed:
			r.Failed += p.Count
		}
	}
	for i := range points {
		r := &points[i]
		r.Accepted = max(r.Accepted, r.Delivered+r.Blocked+r.Failed)
		r.Without = r.Accepted - r.Delivered - r.Blocked - r.Failed
	}
	return points
}

// at reports whether a point is of the same step, app and type.
func (r ReceiptPoint) at(p Point) bool { return r.App == p.App && r.Type == p.Type && r.At.Equal(p.At) }

// compareStep orders points by time, app and type.
func compareStep(a, b Point) int {
	a.Outcome, b.Outcome, a.ErrCode, b.ErrCode = "", "", 0, 0
	return compare(a, b)
}
