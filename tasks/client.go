package tasks

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/consent"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/taskstate"
	"github.com/wxcourier/wxcourier/internal/templates"
)

// Client enqueues tasks, and looks up, waits for and cancels the tasks and batches that its
// caller names. It is safe for concurrent use. See [NewClient]. An [Inspector] lists and
// redrives tasks.
//
// A plain asynq.Client can enqueue the tasks of this package too, but it does not keep an id
// unique across queues and for as long as its result is kept, and it does not wake a closed
// lane at once.
type Client struct {
	backend
	enqueuer  *asynqwire.Enqueuer
	apps      sync.Map // those that are in ledger.AppsKey
	templates *templates.Cache
	consents  *consent.Store
	callbacks func(app string) (has, known bool) // nil: of no app is it known
}

// A ClientOption changes a [Client] from its defaults, which are those of the configuration of the
// workers.
type ClientOption func(*clientOptions)

type clientOptions struct {
	policy    ledger.Policy
	callbacks func(app string) (has, known bool) // nil: of no app is it known
}

// WithRetention says how long the workers keep results (`results.retention`). The Client keeps the index
// of openids for as long; the workers extend that of a Client without this option. Default 24 h.
func WithRetention(d time.Duration) ClientOption {
	return func(o *clientOptions) { o.policy.Retention = d }
}

// WithOpenIDIndex says whether tasks can be found by the openid of their receiver (`results.index_openids`):
// enqueuing a task then stores a hash of the openid, for the retention and up to two days more. Default
// true.
func WithOpenIDIndex(on bool) ClientOption {
	return func(o *clientOptions) { o.policy.IndexOpenIDs = on }
}

// WithCallbacks says which apps have a callback (`apps[].callback`), as far as that is known now: a task
// that ends with WeChat's push then gets a [Receipt.Warning] if its app has none. It may be called at any
// time, from any goroutine.
func WithCallbacks(callbacks func(app string) (has, known bool)) ClientOption {
	return func(o *clientOptions) { o.callbacks = callbacks }
}

// NewClient returns a Client on rdb. It does no I/O. The caller closes the Client after its last use,
// and then rdb.
func NewClient(rdb redis.UniversalClient, options ...ClientOption) *Client {
	o := clientOptions{policy: ledger.Policy{Retention: 24 * time.Hour, IndexOpenIDs: true}}
	for _, option := range options {
		option(&o)
	}
	return &Client{
		backend: newBackend(rdb, o.policy), enqueuer: asynqwire.NewEnqueuer(rdb), templates: templates.NewCache(rdb, nil),
		consents: consent.NewStore(rdb, nil), callbacks: o.callbacks,
	}
}

// Close ends what the Client does in the background, and waits for it: where an app has message
// templates, it reads them again once a minute. A Client that is not closed leaves no goroutine for
// longer than a second.
func (c *Client) Close() { c.templates.Close() }

// Receipt describes an enqueued task.
type Receipt struct {
	App   string `json:"app"`
	ID    string `json:"id"`
	Queue string `json:"queue"`
	// Already: a task with this id was enqueued before; this call enqueued nothing.
	Already bool `json:"already,omitempty"`
	// Done, with Already: that task has an outcome; see [Client.Result].
	Done bool `json:"done,omitempty"`
	// Differs, with Already: that task has another body; the body of this call is not
	// sent. Usually the producer gave two messages the same id. The bodies are compared by
	// a digest of the type and the body, which ignores the order of an object's members;
	// the other fields of the envelope are not compared. Differs is false if the digest is
	// not known, because a plain asynq.Client or an older version enqueued the task.
	Differs bool `json:"differs,omitempty"`
	// Warning is the catalog's warning about the task's type, and what does not fit the message's
	// template, where `templates.check` of the app is "warn" or the template is not in the app's list; and
	// that the app has no callback, where the task needs one; see [WithCallbacks]. It is empty for most
	// tasks, and contains no value.
	Warning string `json:"warning,omitempty"`
}

// Enqueue enqueues a task that one of this package's constructors made. Enqueuing an id
// again, while its task waits or its result is kept, does nothing and sets
// [Receipt.Already], and [Receipt.Differs] if the body is another one. The error is a
// *[ValidationError] for a task that can never be sent, wraps [ErrIDInUse] or
// [ErrRedisFull], or comes from Redis; after an error from Redis it is safe to repeat the
// call.
func (c *Client) Enqueue(ctx context.Context, t *asynq.Task) (Receipt, error) {
	d, err := decodeDraft(t)
	if err != nil {
		return Receipt{}, err
	}
	return c.submit(ctx, d)
}

// decodeDraft reads the draft of a task of this package.
func decodeDraft(t *asynq.Task) (draft, error) {
	e, err := DecodePayload(t.Payload())
	e.TraceParent = t.Headers()[HeaderTraceParent]
	return draft{Envelope: e}, err
}

// Submit is like Enqueue, for an envelope.
func (c *Client) Submit(ctx context.Context, e Envelope) (Receipt, error) {
	return c.submit(ctx, draft{Envelope: e})
}

func (c *Client) submit(ctx context.Context, d draft) (Receipt, error) {
	var result SubmitResult
	if s := (submission{draft: d, out: &result}); c.prepare(ctx, &s) {
		c.enqueue(ctx, c.mark(ctx, []*submission{&s}))
	}
	return result.Receipt, result.Err
}

// SubmitResult is the result of [Client.SubmitMany] for one envelope.
type SubmitResult struct {
	Receipt Receipt
	Err     error
}

// The size of a chunk: the tasks that are sent in one pipeline. Three chunks are in memory
// at a time: one is checked while the ids of another are marked and a third is enqueued.
// Chunks keep their order, so that of equal ids the first one is new.
const (
	chunkTasks = 500
	chunkBytes = 4 << 20 // of bodies; a single body may exceed it
)

// SubmitMany enqueues many tasks in few round trips. The results are in the order of the
// envelopes; a failure of one does not affect the others. When the connection breaks, each
// task that may or may not be enqueued has the error; repeating these is safe. Besides the
// envelopes and the results it needs memory for 1,500 tasks at most.
func (c *Client) SubmitMany(ctx context.Context, envelopes []Envelope) []SubmitResult {
	return c.submitMany(ctx, len(envelopes), func(i int) (draft, error) {
		return draft{Envelope: envelopes[i]}, nil
	})
}

// EnqueueMany is like SubmitMany, for tasks that the constructors made.
func (c *Client) EnqueueMany(ctx context.Context, ts []*asynq.Task) []SubmitResult {
	return c.submitMany(ctx, len(ts), func(i int) (draft, error) { return decodeDraft(ts[i]) })
}

func (c *Client) submitMany(ctx context.Context, n int, nth func(int) (draft, error)) []SubmitResult {
	results := make([]SubmitResult, n)
	ready, marked := make(chan []*submission), make(chan []*submission)
	go func() {
		defer close(ready)
		for at := 0; at < n; {
			var chunk []*submission
			chunk, at = c.nextChunk(ctx, results, at, nth)
			ready <- chunk
		}
	}()
	go func() {
		defer close(marked)
		for chunk := range ready {
			marked <- c.mark(ctx, chunk)
		}
	}()
	for chunk := range marked {
		c.enqueue(ctx, chunk)
	}
	return results
}

// nextChunk prepares the tasks from index at on, up to the size of a chunk. It returns the
// valid ones, and the index at which the next chunk begins.
func (c *Client) nextChunk(ctx context.Context, results []SubmitResult, at int, nth func(int) (draft, error)) ([]*submission, int) {
	limit := min(chunkTasks, len(results)-at)
	chunk, submissions := make([]*submission, 0, limit), make([]submission, limit)
	size := 0
	for ; at < len(results) && len(chunk) < chunkTasks && size < chunkBytes; at++ {
		d, err := nth(at)
		if err != nil {
			results[at].Err = err
			continue
		}
		s := &submissions[len(chunk)]
		if *s = (submission{draft: d, out: &results[at]}); c.prepare(ctx, s) {
			chunk = append(chunk, s)
			size += len(d.Body)
		}
	}
	return chunk, at
}

// backend is what Client and Inspector share: a Redis, with our records and asynq's queues.
type backend struct {
	rdb            redis.UniversalClient
	ledger         *ledger.Ledger
	states         *taskstate.Reader
	asynqInspector *asynq.Inspector
}

func newBackend(rdb redis.UniversalClient, policy ledger.Policy) backend {
	return backend{
		rdb: rdb, ledger: ledger.New(rdb, policy), states: taskstate.NewReader(rdb), asynqInspector: asynq.NewInspectorFromRedisClient(rdb),
	}
}

// wake notifies the replicas that a queue has a task. Its error is ignored, since the
// replicas also poll.
func (b *backend) wake(ctx context.Context, queue string) {
	_ = b.rdb.Publish(ctx, ledger.WakeChannel, queue).Err()
}

// taskInfo returns asynq's information about a task. A queue that was deleted in the asynq
// web UI is not in asynq's set of queues, and a producer that used it before does not add it
// again. asynq then returns ErrQueueNotFound even if the queue has tasks, so taskInfo adds
// the queue to the set and tries again.
func (b *backend) taskInfo(ctx context.Context, queue, taskID string) (*asynq.TaskInfo, error) {
	info, err := b.asynqInspector.GetTaskInfo(queue, taskID)
	if !errors.Is(err, asynq.ErrQueueNotFound) {
		return info, err
	}
	if err := b.rdb.SAdd(ctx, asynqwire.Queues, queue).Err(); err != nil {
		return nil, err
	}
	return b.asynqInspector.GetTaskInfo(queue, taskID)
}
