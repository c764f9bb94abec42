package tasks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

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
	rdb       redis.UniversalClient
	asynq     *asynq.Client
	inspector *asynq.Inspector
	ledger    *ledger.Ledger
	known     sync.Map // apps that are in ledger.AppsKey
}

// NewClient does no I/O. The Redis client stays the caller's: close it after the last
// use of this one.
func NewClient(rdb redis.UniversalClient) *Client {
	return &Client{
		rdb: rdb, asynq: asynq.NewClientFromRedisClient(rdb), inspector: asynq.NewInspectorFromRedisClient(rdb),
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
	// Warning is the catalog's about the task's type, or empty.
	Warning string `json:"warning,omitempty"`
}

// Enqueue hands over a task that one of this package's constructors made. Enqueuing an
// id again, while its task waits or its result is kept, sends nothing and says so in
// the receipt. The error is a *[ValidationError] for a task that can never be sent, or
// Redis' own; after one of Redis' it is safe to repeat the call.
func (c *Client) Enqueue(ctx context.Context, t *asynq.Task) (Receipt, error) {
	e, err := DecodePayload(t.Payload())
	if err != nil {
		return Receipt{}, err
	}
	return c.submit(ctx, draft{Envelope: e, traceParent: t.Headers()[HeaderTraceParent]})
}

// Submit is Enqueue for an envelope.
func (c *Client) Submit(ctx context.Context, e Envelope) (Receipt, error) {
	return c.submit(ctx, draft{Envelope: e})
}

// Submitted is one item's answer of [Client.SubmitMany].
type Submitted struct {
	Receipt Receipt
	Err     error
}

// manyAtOnce is how many tasks of one SubmitMany are under way at once.
const manyAtOnce = 16

// SubmitMany hands over many tasks. The answers are in the order of the envelopes; one
// that fails leaves the others alone.
func (c *Client) SubmitMany(ctx context.Context, envelopes []Envelope) []Submitted {
	answers := make([]Submitted, len(envelopes))
	next := make(chan int)
	var senders sync.WaitGroup
	for range min(manyAtOnce, len(envelopes)) {
		senders.Go(func() {
			for i := range next {
				answers[i].Receipt, answers[i].Err = c.Submit(ctx, envelopes[i])
			}
		})
	}
	for i := range envelopes {
		next <- i
	}
	close(next)
	senders.Wait()
	return answers
}

// EnqueueMany is SubmitMany for tasks that the constructors made.
func (c *Client) EnqueueMany(ctx context.Context, ts []*asynq.Task) []Submitted {
	answers := make([]Submitted, len(ts))
	envelopes := make([]Envelope, 0, len(ts))
	place := make([]int, 0, len(ts))
	for i, t := range ts {
		e, err := DecodePayload(t.Payload())
		if err != nil {
			answers[i].Err = err
			continue
		}
		envelopes, place = append(envelopes, e), append(place, i)
	}
	for i, answer := range c.SubmitMany(ctx, envelopes) {
		answers[place[i]] = answer
	}
	return answers
}

func (c *Client) submit(ctx context.Context, d draft) (Receipt, error) {
	now := time.Now()
	d.marked = true
	task, err := d.task(now)
	if err != nil {
		return Receipt{}, err
	}
	claim, err := c.claim(ctx, &d, now)
	if err != nil {
		return Receipt{}, err
	}
	receipt := Receipt{App: d.App, ID: d.ID, Queue: claim.Queue}
	if spec, ok := Lookup(d.Type); ok {
		receipt.Warning = spec.Warning
	}
	if claim.Done {
		receipt.Already, receipt.Done = true, true
		return receipt, nil
	}
	if d.Type == TypeImageCheck {
		if task, err = c.withBlob(ctx, &d, now); err != nil {
			return Receipt{}, err
		}
	}
	// Also what is only marked is enqueued: its producer may have died in between.
	// asynq knows an id that it has.
	err = c.enqueue(ctx, task, claim)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		receipt.Already = true
		return receipt, nil
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("enqueue %s: %w", d.ID, err)
	}
	c.wake(ctx, &d, now, claim.Queue)
	return receipt, nil
}

func (c *Client) claim(ctx context.Context, d *draft, now time.Time) (ledger.Claim, error) {
	if _, ok := c.known.Load(d.App); !ok {
		if err := c.rdb.SAdd(ctx, ledger.AppsKey, d.App).Err(); err != nil {
			return ledger.Claim{}, fmt.Errorf("enqueue %s: %w", d.ID, err)
		}
		c.known.Store(d.App, true)
	}
	state := StateWaiting
	if d.ProcessAt.After(now) {
		state = StateScheduled
	}
	claim, err := c.ledger.Mark(ctx, ledger.Ref{App: d.App, ID: d.ID, Batch: d.Batch}, d.Queue(), string(state))
	if err != nil {
		return ledger.Claim{}, fmt.Errorf("enqueue %s: %w", d.ID, err)
	}
	return claim, nil
}

func (c *Client) enqueue(ctx context.Context, task *asynq.Task, claim ledger.Claim) error {
	into := asynq.Queue(claim.Queue)
	_, conflict := c.asynq.EnqueueContext(ctx, task, into)
	if !errors.Is(conflict, asynq.ErrTaskIDConflict) {
		return conflict
	}
	// The record of an earlier task of this id may be gone while its copy in asynq's
	// archive is not. A task that waits or runs is not deleted by this.
	id := taskIDOf(task)
	info, err := c.inspector.GetTaskInfo(claim.Queue, id)
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound):
		return conflict // it has ended meanwhile
	case err != nil:
		return fmt.Errorf("look for an archived copy: %w", err)
	case info.State != asynq.TaskStateArchived && info.State != asynq.TaskStateCompleted:
		return conflict
	}
	if err := c.inspector.DeleteTask(claim.Queue, id); err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
		return fmt.Errorf("delete the archived copy: %w", err)
	}
	_, err = c.asynq.EnqueueContext(ctx, task, into)
	return err
}

// taskIDOf reads the asynq task id back from a payload of ours.
func taskIDOf(t *asynq.Task) string {
	var id struct{ App, ID string }
	if json.Unmarshal(t.Payload(), &id) != nil {
		return ""
	}
	return id.App + ":" + id.ID
}

// withBlob moves the image of a check out of the payload: asynq writes the payloads of
// running tasks to Redis again with every heartbeat.
func (c *Client) withBlob(ctx context.Context, d *draft, now time.Time) (*asynq.Task, error) {
	var body ImageCheckPayload
	if err := json.Unmarshal(d.Body, &body); err != nil {
		return nil, fmt.Errorf("enqueue %s: read the image: %w", d.ID, err)
	}
	if body.Media == nil {
		return d.prepared(now), nil
	}
	if err := c.ledger.PutBlob(ctx, d.App, d.ID, body.Media); err != nil {
		return nil, fmt.Errorf("enqueue %s: %w", d.ID, err)
	}
	sum := sha256.Sum256(body.Media)
	light := *d
	light.Body = fmt.Appendf(nil, `{"%s":"%s"}`, mediaBlobField, hex.EncodeToString(sum[:]))
	return light.prepared(now), nil
}

// wake tells sleeping replicas that a queue has work. That it fails is no failure of
// the enqueuing: the replicas look for themselves, too.
func (c *Client) wake(ctx context.Context, d *draft, now time.Time, queue string) {
	if !d.ProcessAt.After(now) {
		_ = c.rdb.Publish(ctx, ledger.WakeChannel, queue).Err()
	}
}
