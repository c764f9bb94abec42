package tasks

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

// submission is a task to enqueue, and where its result goes.
type submission struct {
	draft
	item  asynqwire.Item
	now   time.Time
	known bool // an earlier call marked the id
	out   *SubmitResult
}

// prepare checks the task and builds it for asynq. It returns false, with the error in out,
// for a task that cannot be sent.
func (c *Client) prepare(ctx context.Context, s *submission) bool {
	s.now, s.marked = time.Now(), true
	if row := lookup(s.Type); row != nil && row.list != "" && ValidApp(s.App) {
		s.registry = c.templates.Get(ctx, s.App)
	}
	s.item.Task, s.out.Err = s.build(s.now)
	if s.outdated {
		c.templates.Want(ctx, s.App)
	}
	return s.out.Err == nil
}

func (s *submission) fail(err error) { *s.out = SubmitResult{Err: enqueueError(s.ID, err)} }

// dueNow reports whether the task may be sent at once.
func (s *submission) dueNow() bool { return !s.ProcessAt.After(s.now) }

// enqueue enqueues tasks whose ids are marked and have no outcome. That includes ids that an
// earlier call marked, since its process may have died before it enqueued them; asynq
// refuses an id that it has.
func (c *Client) enqueue(ctx context.Context, all []*submission) {
	open := c.storeImages(ctx, all)
	items, repeated := splitRepeated(open)
	c.enqueuer.EnqueueMany(ctx, items)
	if len(repeated) > 0 {
		c.enqueuer.EnqueueMany(ctx, repeated)
	}
	c.resolveConflicts(ctx, open)
	c.markEnded(ctx, open)

	woken := make(map[string]bool, 1)
	for _, s := range open {
		switch {
		case errors.Is(s.item.Err, asynq.ErrTaskIDConflict), s.out.Receipt.Done:
			s.out.Receipt.Already = true
			continue
		case s.item.Err != nil:
			s.fail(s.item.Err)
			continue
		case s.out.Receipt.Differs:
			c.updateDigest(ctx, s)
		}
		if s.dueNow() && !woken[s.item.Queue] {
			woken[s.item.Queue] = true
			c.wake(ctx, s.item.Queue)
		}
	}
}

// splitRepeated returns the items of a chunk, and apart from them those whose ids earlier items
// have. In one pipeline a later item could be enqueued before an earlier one: asynq sends those
// again that Redis refused because it did not know asynq's script yet.
func splitRepeated(all []*submission) (items, repeated []*asynqwire.Item) {
	type key struct{ app, id string }
	items, seen := make([]*asynqwire.Item, 0, len(all)), make(map[key]bool)
	known := slices.ContainsFunc(all, func(s *submission) bool { return s.known }) // as a repeated one is
	for _, s := range all {
		if k := (key{s.App, s.ID}); known {
			if seen[k] {
				repeated = append(repeated, &s.item)
				continue
			}
			seen[k] = true
		}
		items = append(items, &s.item)
	}
	return items, repeated
}

// markEnded sets Done in the receipts of known ids that asynq took and whose tasks have an
// outcome: they were delivered between the mark and the queue. What asynq took then is not
// sent, since the worker finds the outcome.
func (c *Client) markEnded(ctx context.Context, all []*submission) {
	var taken []*submission
	for _, s := range all {
		if s.known && s.item.Err == nil {
			taken = append(taken, s)
		}
	}
	inParallel(taken, func(s *submission) {
		record, err := c.ledger.Record(ctx, s.App, s.ID)
		s.out.Receipt.Done = err == nil && record.Outcome != ""
	})
}

// updateDigest replaces the digest of the id: an earlier call marked the id with another
// body and did not enqueue it, so the body of this call is sent.
func (c *Client) updateDigest(ctx context.Context, s *submission) {
	s.out.Receipt.Differs = false
	// If this fails, the first body's digest stays, and a repeated call gets Differs.
	_ = c.ledger.UpdateDigest(ctx, s.App, s.ID, s.digest, s.receiver)
}

// registerApps adds the apps of tasks to the set of apps, each app once per Client. It
// returns the tasks for which that succeeded. It tries each app once: while Redis does not
// answer, each try takes half a second.
func (c *Client) registerApps(ctx context.Context, all []*submission) []*submission {
	open := all[:0:0]
	var failed map[string]error
	for _, s := range all {
		if _, ok := c.apps.Load(s.App); !ok {
			err, tried := failed[s.App]
			if !tried {
				err = c.rdb.SAdd(ctx, ledger.AppsKey, s.App).Err()
			}
			if err != nil {
				if failed == nil {
					failed = make(map[string]error, 1)
				}
				failed[s.App] = err
				s.fail(err)
				continue
			}
			c.apps.Store(s.App, true)
		}
		open = append(open, s)
	}
	return open
}

// mark marks the ids in the ledger, fills the receipts, and returns the tasks to enqueue.
func (c *Client) mark(ctx context.Context, all []*submission) []*submission {
	all = c.registerApps(ctx, all)
	requests := make([]ledger.MarkRequest, len(all))
	for i, s := range all {
		state := StateScheduled
		if s.dueNow() {
			state = StateWaiting
		}
		requests[i] = ledger.MarkRequest{
			Ref: ledger.Ref{App: s.App, ID: s.ID, Batch: s.Batch}, Queue: s.Queue(), State: string(state), Enqueued: s.now,
			Digest: s.digest, Receiver: s.receiver, ProcessAt: s.ProcessAt,
		}
	}
	open := all[:0:0]
	for i, m := range c.ledger.MarkMany(ctx, requests) {
		s := all[i]
		err := m.Err
		if err == nil {
			err = s.typeConflict(m.Queue)
		}
		if err != nil {
			s.fail(err)
			continue
		}
		s.out.Receipt = Receipt{App: s.App, ID: s.ID, Queue: m.Queue, Already: m.Done, Done: m.Done, Differs: m.Differs}
		s.out.Receipt.Warning = s.warning()
		if of := c.WarningOf(s.App, s.Type); of != "" {
			s.out.Receipt.Warning = of // of a type whose templates are not known
		}
		if s.item.Queue, s.known = m.Queue, !m.New; !m.Done {
			open = append(open, s)
		}
	}
	return open
}

// noCallback is the warning about a task that needs a callback which its app does not have.
const noCallback = "the app has no callback, so that WeChat's verdict cannot arrive, and the task ends as unknown after 30 minutes: configure callback of the app"

// WarningOf returns the warning about all tasks of a type of an app, see [Receipt.Warning]; "" for none.
func (c *Client) WarningOf(app, typ string) string {
	row := lookup(typ)
	switch {
	case row == nil:
		return ""
	case row.Callback && c.callbacks != nil:
		if has, known := c.callbacks(app); known && !has {
			return noCallback
		}
	}
	return row.Warning
}

// typeConflict returns the error for an id that a task of another type has, given the queue
// of that task. A scheme with plaintext and one without count as two types: no lane takes both.
func (s *submission) typeConflict(queue string) error {
	_, lane, _, ok := ParseLane(queue)
	if !ok || lane == s.Lane() {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrIDInUse, lane)
}

// storeImages moves the images of checks out of the payloads, since asynq writes the
// payloads of running tasks to Redis again with every heartbeat. It returns the tasks for
// which that succeeded.
func (c *Client) storeImages(ctx context.Context, all []*submission) []*submission {
	var images []*submission
	for _, s := range all {
		if s.Type == TypeImageCheck {
			images = append(images, s)
		}
	}
	if len(images) == 0 {
		return all
	}
	first := make(map[*submission]bool, len(images)) // whether it is the first of its id: an id has one image
	seen := make(map[[2]string]bool, len(images))
	for _, s := range images {
		id := [2]string{s.App, s.ID}
		first[s], seen[id] = !seen[id], true
	}
	inParallel(images, func(s *submission) {
		if err := c.storeImage(ctx, s, first[s]); err != nil {
			s.fail(err)
		}
	})
	open := all[:0:0]
	for _, s := range all {
		if s.out.Err == nil {
			open = append(open, s)
		}
	}
	return open
}

// storeImage replaces the image in the payload by its hash, and with keep stores the image
// under the task's id.
func (c *Client) storeImage(ctx context.Context, s *submission, keep bool) error {
	var body ImageCheckPayload
	if err := json.Unmarshal(s.Body, &body); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	if body.Media == nil {
		return nil
	}
	if keep {
		if err := c.ledger.PutBlob(ctx, s.App, s.ID, body.Media); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(body.Media)
	withoutImage := s.draft
	withoutImage.Body = fmt.Appendf(nil, `{"%s":"%s"}`, mediaBlobField, hex.EncodeToString(sum[:]))
	s.item.Task = withoutImage.buildPrepared(s.now)
	return nil
}

// resolveConflicts handles the tasks whose ids asynq has already. The record of an earlier
// task of such an id may have expired while asynq's archive still has the task; that copy is
// deleted.
func (c *Client) resolveConflicts(ctx context.Context, all []*submission) {
	conflicts := make(map[string][]*submission)
	for _, s := range all {
		if errors.Is(s.item.Err, asynq.ErrTaskIDConflict) {
			conflicts[s.item.Queue] = append(conflicts[s.item.Queue], s)
		}
	}
	for queue, group := range conflicts {
		if len(group) < maxParallel || c.hasEndedTasks(queue) {
			inParallel(group, func(s *submission) { c.resolveConflict(ctx, s) })
		}
	}
}

// hasEndedTasks reports whether a queue may have ended tasks. Usually it has none, and
// enqueuing a file again then needs no lookup for each of its tasks.
func (c *Client) hasEndedTasks(queue string) bool {
	info, err := c.asynqInspector.GetQueueInfo(queue)
	return err != nil || info.Archived > 0 || info.Completed > 0
}

// resolveConflict enqueues a task again if asynq's copy of it is gone or has ended. Else it
// leaves the error ErrTaskIDConflict.
func (c *Client) resolveConflict(ctx context.Context, s *submission) {
	info, err := c.taskInfo(ctx, s.item.Queue, s.TaskID())
	switch {
	case errors.Is(err, asynq.ErrTaskNotFound):
		// It has ended meanwhile, or its archived copy was deleted. The worker sends it only
		// if it has no outcome.
		c.enqueuer.EnqueueMany(ctx, []*asynqwire.Item{&s.item})
		return
	case err != nil:
		s.item.Err = fmt.Errorf("look for an archived copy: %w", err)
		return
	case info.State != asynq.TaskStateArchived && info.State != asynq.TaskStateCompleted:
		return // it waits or runs
	}
	if err := c.asynqInspector.DeleteTask(s.item.Queue, s.TaskID()); err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
		s.item.Err = fmt.Errorf("delete the archived copy: %w", err)
		return
	}
	c.enqueuer.EnqueueMany(ctx, []*asynqwire.Item{&s.item})
}

// maxParallel is the largest number of tasks that are processed at the same time where each
// needs its own round trips.
const maxParallel = 16

// inParallel calls do for all submissions, from up to maxParallel goroutines.
func inParallel(all []*submission, do func(*submission)) {
	next := make(chan *submission)
	var workers sync.WaitGroup
	for range min(maxParallel, len(all)) {
		workers.Go(func() {
			for s := range next {
				do(s)
			}
		})
	}
	for _, s := range all {
		next <- s
	}
	close(next)
	workers.Wait()
}
