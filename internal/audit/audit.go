// Package audit records what operators and services change, and who did it: holds, releases, redrives,
// cancellations, campaigns and the like.
package audit

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// Action is what was done.
type Action string

// The actions.
const (
	Hold        Action = "hold"
	Release     Action = "release"
	Cancel      Action = "cancel" // a task
	CancelBatch Action = "cancel_batch"
	Redrive     Action = "redrive"
	Campaign    Action = "campaign" // a table was sent
	Webhook     Action = "webhook"  // a webhook's position or dead letters were changed
	SignIn      Action = "sign_in"  // into the console
	Monitor     Action = "monitor"  // a change in the asynq web UI
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

// Query selects entries.
type Query struct {
	Apps   func(app string) bool // nil: all, also entries without an app
	Before string                // entries before the one with this id; "": the newest
	Limit  int
	Match  func(Entry) bool // nil: all
}

// Append records an entry.
func Append(ctx context.Context, rdb redis.UniversalClient, e Entry) error {
	return nil
}

// List returns entries, the newest first, and the id for Query.Before of the next page, "" if there
// is none.
func List(ctx context.Context, rdb redis.UniversalClient, q Query) (entries []Entry, next string, err error) {
	return nil, "", nil
}
