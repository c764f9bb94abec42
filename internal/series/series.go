// Package series counts the outcomes of tasks over time: by minute for two days and by hour for 35
// days, each by app, task type, outcome and errcode. The counts are for charts and lists of failures;
// the ledger has the exact ones.
package series

import (
	"context"
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
}

// Read returns the points of a query, sorted by time, app, type, outcome and errcode.
func Read(ctx context.Context, rdb redis.UniversalClient, q Query) ([]Point, error) {
	return nil, nil
}
