package inspect

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// FindQuery selects tasks. Exactly one of ID, OpenID, RID and MsgID is set.
type FindQuery struct {
	Apps   []string
	ID     string
	OpenID string
	RID    string // of WeChat's answer
	MsgID  string
	Limit  int    // of tasks; 0: 100
	Cursor string // of the page before; "": the first
}

// Found is a task that was found.
type Found struct {
	tasks.Result
	Place Place `json:"place"`
}

// FoundTasks is a page of tasks, the newest first.
type FoundTasks struct {
	Items []Found `json:"items"`
	// Cursor is for the next page; "": there is none.
	Cursor string `json:"cursor,omitempty"`
	// Back is the time to which the search has looked; zero: to the end of what is kept.
	Back time.Time `json:"back,omitzero"`
}

// Find finds tasks. By ID and OpenID it also finds tasks that have not ended; by RID and MsgID it
// reads the results, the newest first, at most 20,000 in one call.
func (r *Reader) Find(ctx context.Context, q FindQuery) (FoundTasks, error) {
	return FoundTasks{}, nil
}

// Failure is an attempt that did not end its task.
type Failure struct {
	At      time.Time `json:"at"`
	ErrCode int       `json:"errcode"` // 0: there was no answer
	Class   string    `json:"class"`   // as in metrics
	ErrMsg  string    `json:"errmsg"`
	RID     string    `json:"rid,omitempty"`
	// Wait is how long the task was to wait before its next attempt.
	Wait time.Duration `json:"-"`
}

// RecentBatch is a batch and when tasks were last enqueued in it.
type RecentBatch struct {
	Batch
	LastEnqueued time.Time `json:"last_enqueued"`
}

// RecentBatches returns the batches of some apps by the last enqueue, the newest first, up to limit.
// The batches have no Rate. before is the LastEnqueued of the last one of the page before; zero: the
// first page.
func (r *Reader) RecentBatches(ctx context.Context, apps []string, before time.Time, limit int) ([]RecentBatch, error) {
	return nil, nil
}
