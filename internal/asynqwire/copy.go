package asynqwire

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Copy is asynq's copy of a task.
type Copy struct {
	Queue   string
	State   string    // Pending, Active, Scheduled, Retry, Archived or Completed
	Due     time.Time // when a scheduled or retried task becomes pending, in whole seconds; else zero
	Payload []byte
	Retried int    // runs that asynq counted as failed
	LastErr string // the error of the last run that asynq retried; "" for none
	Paused  bool   // the queue is paused
	PauseBy string // the value of the queue's pause key
}

// ReadCopy reads asynq's copy of a task in one round trip. id is asynq's id. It returns nil when
// the queue does not have the task. Unlike asynq's Inspector it does not need the queue to be in
// the set of queues, which is lost when the queue is deleted in the asynq web UI.
func ReadCopy(ctx context.Context, rdb redis.UniversalClient, queue, id string) (*Copy, error) {
	var (
		task             *redis.SliceCmd
		scheduled, retry *redis.FloatCmd
		paused           *redis.StringCmd
	)
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		task = p.HMGet(ctx, TaskKey(queue, id), "state", "msg")
		scheduled = p.ZScore(ctx, Key(queue, Scheduled), id)
		retry = p.ZScore(ctx, Key(queue, Retry), id)
		paused = p.Get(ctx, Key(queue, Paused))
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read asynq's task: %w", err)
	}
	values := task.Val()
	state, _ := values[0].(string)
	if state == "" {
		return nil, nil
	}
	c := Copy{Queue: queue, State: state, Paused: paused.Err() == nil, PauseBy: paused.Val()}
	for _, score := range []*redis.FloatCmd{scheduled, retry} {
		if score.Err() == nil {
			c.Due = time.Unix(int64(score.Val()), 0)
		}
	}
	message, _ := values[1].(string)
	if err := c.decode([]byte(message)); err != nil {
		return nil, fmt.Errorf("read asynq's task: %w", err)
	}
	return &c, nil
}

// The numbers of the fields of asynq's message, a protocol buffer (asynq.proto, TaskMessage).
const (
	messagePayload  = 2
	messageRetried  = 6
	messageErrorMsg = 7
)

var errMessage = errors.New("asynqwire: not a message of asynq")

// decode reads some fields of asynq's message. asynq exports no decoder; TestReadCopy compares
// this one with its Inspector.
func (c *Copy) decode(message []byte) error {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return errMessage
		}
		message = message[n:]
		value, n := binary.Uvarint(message) // of a number; the length of bytes
		if n <= 0 {
			return errMessage
		}
		message = message[n:]
		field, wire := tag>>3, tag&7
		if wire == 0 {
			if field == messageRetried {
				c.Retried = int(value) //nolint:gosec // asynq's int32
			}
			continue
		}
		if wire != 2 || value > uint64(len(message)) {
			return errMessage
		}
		switch field {
		case messagePayload:
			c.Payload = message[:value]
		case messageErrorMsg:
			c.LastErr = string(message[:value])
		}
		message = message[value:]
	}
	return nil
}

// FindQueue returns the queue among some that has a task, or "", in one round trip.
func FindQueue(ctx context.Context, rdb redis.UniversalClient, queues []string, id string) (string, error) {
	found := make([]*redis.IntCmd, len(queues))
	_, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, queue := range queues {
			found[i] = p.Exists(ctx, TaskKey(queue, id))
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("find asynq's task: %w", err)
	}
	for i, queue := range queues {
		if found[i].Val() == 1 {
			return queue, nil
		}
	}
	return "", nil
}

// Position is the place of a pending task in its queue.
type Position struct {
	Before int64 // tasks that are dequeued before it
	// AtLeast: the task is farther back than the search went; Before is a lower bound.
	AtLeast bool
}

// FindPosition counts the pending tasks before one in its queue. It compares at most depth tasks
// from the front, since Redis does nothing else meanwhile: 100,000 take some 3 ms. found is false
// when the task is not pending, or Redis does not have the command (LPOS, since Redis 6.0.6).
func FindPosition(ctx context.Context, rdb redis.UniversalClient, queue, id string, depth int64) (pos Position, found bool, err error) {
	key := Key(queue, Pending)
	var length, place *redis.IntCmd
	_, _ = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		length = p.LLen(ctx, key)
		place = p.LPos(ctx, key, id, redis.LPosArgs{Rank: -1, MaxLen: depth})
		return nil
	})
	if err := length.Err(); err != nil {
		return Position{}, false, fmt.Errorf("find the position: %w", err)
	}
	switch { // any other error: the task is not pending any more, or there is no such command
	case place.Err() == nil:
		return Position{Before: max(0, length.Val()-1-place.Val())}, true, nil
	case errors.Is(place.Err(), redis.Nil) && length.Val() > depth:
		return Position{Before: depth, AtLeast: true}, true, nil
	}
	return Position{}, false, nil
}
