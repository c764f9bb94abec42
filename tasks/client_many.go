package tasks

import (
	"context"

	"github.com/hibiken/asynq"
)

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
			chunk, at = nextChunk(results, at, nth)
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
func nextChunk(results []SubmitResult, at int, nth func(int) (draft, error)) ([]*submission, int) {
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
		if *s = (submission{draft: d, out: &results[at]}); s.prepare() {
			chunk = append(chunk, s)
			size += len(d.Body)
		}
	}
	return chunk, at
}
