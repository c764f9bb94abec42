package draft

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// lockLife is how long a lock is held after its last update: so long a draft that is being sent is
	// not offered to be continued when its process was killed.
	lockLife = 15 * time.Second
	// UpdateEvery is how often the holder of a lock should update it, and the progress.
	UpdateEvery = time.Second
)

// The errors of a lock.
var (
	// ErrLocked means that a process is sending the batch.
	ErrLocked = errors.New("draft: the batch is being sent")
	// ErrLost means that the lock was not updated in time, and another process may have it.
	ErrLost = errors.New("draft: the lock is lost")
)

// Lock is held by the process that sends a batch.
type Lock struct {
	store          *Store
	app, id, batch string
	token          string
}

// Lock takes the lock of a draft's batch, and writes how far its sending is. ErrLocked: another
// process has it.
func (s *Store) Lock(ctx context.Context, d Draft, run []byte) (*Lock, error) {
	l := &Lock{store: s, app: d.App, id: d.ID, batch: d.Batch, token: d.ID + ":" + rand.Text()}
	taken, err := s.rdb.SetNX(ctx, lockKey(l.app, l.batch), l.token, lockLife).Result()
	if err != nil {
		return nil, fmt.Errorf("lock the batch: %w", err)
	}
	if !taken {
		return nil, ErrLocked
	}
	chunks, err := s.rdb.HGet(ctx, key(l.app, l.id), "chunks").Int()
	if err == nil {
		err = s.keep(ctx, l.app, l.id, chunks)
	} else if errors.Is(err, redis.Nil) {
		err = ErrNotFound
	}
	if err == nil {
		err = l.Update(ctx, run)
	}
	if err != nil {
		_ = l.Release(context.WithoutCancel(ctx), nil) // else it ends by itself
		return nil, err
	}
	return l, nil
}

// keep keeps a draft that is sent.
func (s *Store) keep(ctx context.Context, app, id string, chunks int) error {
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.PExpire(ctx, key(app, id), keptSent)
		for n := range chunks {
			p.PExpire(ctx, chunkKey(app, id, n), keptSent)
		}
		return nil
	})
	return err
}

// updateScript extends a lock, or ends it, and writes the progress.
//
// KEYS[1] the lock, KEYS[2] the draft; ARGV[1] the token, ARGV[2] how long the lock is held, in ms (0:
// it is released), ARGV[3] the progress ("": unchanged). It returns 1, or 0 if another one has it.
var updateScript = redis.NewScript(`
if redis.call("GET", KEYS[1]) ~= ARGV[1] then
	return 0
end
if ARGV[3] ~= "" and redis.call("EXISTS", KEYS[2]) == 1 then
	redis.call("HSET", KEYS[2], "run", ARGV[3])
end
if ARGV[2] == "0" then
	redis.call("DEL", KEYS[1])
else
	redis.call("PEXPIRE", KEYS[1], ARGV[2])
end
return 1`)

// Update extends the lock, and writes the progress; nil: only the lock.
func (l *Lock) Update(ctx context.Context, run []byte) error {
	return l.update(ctx, lockLife.Milliseconds(), run)
}

// Release writes the last progress, and gives the lock back.
func (l *Lock) Release(ctx context.Context, run []byte) error { return l.update(ctx, 0, run) }

func (l *Lock) update(ctx context.Context, life int64, run []byte) error {
	held, err := updateScript.Run(ctx, l.store.rdb, []string{lockKey(l.app, l.batch), key(l.app, l.id)}, l.token, life, run).Int()
	switch {
	case err != nil:
		return fmt.Errorf("update the lock: %w", err)
	case held == 0:
		return ErrLost
	}
	return nil
}
