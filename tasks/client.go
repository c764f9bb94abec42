package tasks

import (
	"context"
	"sync"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
)

// Client is what a producer holds: it enqueues tasks, looks up what became of them and
// takes them back. It is safe for concurrent use. See [NewClient].
//
// A plain asynq.Client can enqueue the tasks of this package too. What it cannot do is
// keep an id unique for as long as its result is kept, across queues, and wake a
// sleeping lane at once.
type Client struct {
	rdb         redis.UniversalClient
	asynqClient *asynq.Client // of a courier
	inspector   *asynq.Inspector
	ledger      *ledger.Ledger
	apps        sync.Map // those that are in ledger.AppsKey
}

// NewClient does no I/O. The Redis client stays the caller's: close it after the last
// use of this one.
func NewClient(rdb redis.UniversalClient) *Client {
	return &Client{
		rdb: rdb, asynqClient: asynq.NewClientFromRedisClient(capturingClient{rdb}), inspector: asynq.NewInspectorFromRedisClient(rdb),
		ledger: ledger.New(rdb, ledger.Policy{}),
	}
}

// Receipt is the answer to a task that was handed over.
type Receipt struct {
	App   string `json:"app"`
	ID    string `json:"id"`
	Queue string `json:"queue"`
	// Already: the id was enqueued before, and this call sends nothing.
	Already bool `json:"already,omitempty"`
	// Done, with Already: the task has its outcome; see [Client.Result].
	Done bool `json:"done,omitempty"`
	// Differs, with Already: the task that has the id has another body, and the body of
	// this call is not sent. As a rule a producer gave two messages one id. The bodies are
	// compared by a digest of the type and the body, in which the order of an object's
	// members does not count; the other fields of the envelope are not compared. It is
	// false for an id whose digest is not known: a plain asynq.Client or an older version
	// enqueued it.
	Differs bool `json:"differs,omitempty"`
	// Warning is the catalog's about the task's type, or empty.
	Warning string `json:"warning,omitempty"`
}

// Enqueue hands over a task that one of this package's constructors made. Enqueuing an
// id again, while its task waits or its result is kept, sends nothing and says so in
// the receipt, with [Receipt.Differs] where the body is another one. The error is a
// *[ValidationError] for a task that can never be sent, wraps [ErrIDInUse] or
// [ErrRedisFull], or is Redis' own; after one of Redis' it is safe to repeat the call.
func (c *Client) Enqueue(ctx context.Context, t *asynq.Task) (Receipt, error) {
	d, err := decodeDraft(t)
	if err != nil {
		return Receipt{}, err
	}
	return c.submit(ctx, d)
}

// decodeDraft reads a task of this package back.
func decodeDraft(t *asynq.Task) (draft, error) {
	e, err := DecodePayload(t.Payload())
	return draft{Envelope: e, traceParent: t.Headers()[HeaderTraceParent]}, err
}

// Submit is Enqueue for an envelope.
func (c *Client) Submit(ctx context.Context, e Envelope) (Receipt, error) {
	return c.submit(ctx, draft{Envelope: e})
}

func (c *Client) submit(ctx context.Context, d draft) (Receipt, error) {
	var answer Submitted
	if s := (submission{draft: d, out: &answer}); s.prepare() {
		c.enqueue(ctx, c.mark(ctx, []*submission{&s}))
	}
	return answer.Receipt, answer.Err
}
