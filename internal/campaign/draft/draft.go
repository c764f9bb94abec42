// Package draft keeps campaigns of the console in Redis: the form, the table, and how far the sending
// has come. A gateway keeps no state, so that each step may be served by another one; the one that
// sends a draft holds its lock, and another one can go on when that is killed.
package draft

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// kept is how long a draft is kept that nobody sends.
	kept = 12 * time.Hour
	// keptSent is how long a draft is kept after its sending began: it can be continued, and its
	// report read.
	keptSent = 48 * time.Hour
	// chunkBytes is the size of the values that a compressed table is split into.
	chunkBytes = 512 << 10
)

// ErrNotFound means that there is no such draft, or not any more.
var ErrNotFound = errors.New("draft: not found")

// Store keeps drafts. It is safe for concurrent use.
type Store struct {
	rdb redis.UniversalClient
}

// NewStore returns a Store on rdb. It does no I/O.
func NewStore(rdb redis.UniversalClient) *Store { return &Store{rdb: rdb} }

// Draft is a campaign that is prepared or sent.
type Draft struct {
	ID, App string
	Batch   string
	Info    []byte // of the caller: the form, and what its check found
	Run     []byte // of the caller: how far the sending has come; nil: it has not begun
	Sending bool   // a process holds the lock, and sends it
}

// key is the hash of a draft: `batch info run`, and of its table `chunks` (their number), `size` and
// `sum` (SHA-256) of the content. Private.
func key(app, id string) string { return "wxcourier:{" + app + "}:campaign_draft:" + id }

// chunkKey is a part of a draft's table, compressed.
func chunkKey(app, id string, n int) string { return key(app, id) + ":table:" + strconv.Itoa(n) }

// lockKey has the token of the process that sends a batch.
func lockKey(app, batch string) string { return "wxcourier:{" + app + "}:campaign_lock:" + batch }

// Save stores a draft with its table, and returns its id, which cannot be guessed.
func (s *Store) Save(ctx context.Context, app, batch string, info, table []byte) (id string, err error) {
	id = strings.ToLower(rand.Text())
	packed, err := compress(table)
	if err != nil {
		return "", err
	}
	chunks := 0
	for ; len(packed) > 0; chunks++ {
		chunk := packed[:min(len(packed), chunkBytes)]
		packed = packed[len(chunk):]
		if err := s.rdb.Set(ctx, chunkKey(app, id, chunks), chunk, kept).Err(); err != nil {
			return "", fmt.Errorf("store the table: %w", err)
		}
	}
	sum := sha256.Sum256(table)
	_, err = s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key(app, id), "batch", batch, "info", info, "chunks", chunks, "size", len(table), "sum", hex.EncodeToString(sum[:]))
		p.PExpire(ctx, key(app, id), kept)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("store the draft: %w", err)
	}
	return id, nil
}

func compress(content []byte) ([]byte, error) {
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}

// SetInfo replaces the information of a draft that exists, and its batch.
func (s *Store) SetInfo(ctx context.Context, app, id, batch string, info []byte) error {
	if n, err := s.rdb.Exists(ctx, key(app, id)).Result(); err != nil || n == 0 {
		return missing(err)
	}
	_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.HSet(ctx, key(app, id), "batch", batch, "info", info)
		p.PExpire(ctx, key(app, id), kept)
		return nil
	})
	return err
}

func missing(err error) error {
	if err == nil {
		return ErrNotFound
	}
	return err
}

// Read returns a draft without its table. It takes two round trips.
func (s *Store) Read(ctx context.Context, app, id string) (Draft, error) {
	fields, err := s.rdb.HMGet(ctx, key(app, id), "batch", "info", "run").Result()
	if err != nil {
		return Draft{}, fmt.Errorf("read the draft: %w", err)
	}
	batch, found := fields[0].(string)
	if !found {
		return Draft{}, ErrNotFound
	}
	d := Draft{ID: id, App: app, Batch: batch}
	info, _ := fields[1].(string)
	d.Info = []byte(info)
	if run, ok := fields[2].(string); ok {
		d.Run = []byte(run)
	}
	token, err := s.rdb.Get(ctx, lockKey(app, batch)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return Draft{}, fmt.Errorf("read the draft: %w", err)
	}
	d.Sending = strings.HasPrefix(token, id+":")
	return d, nil
}

// Table returns the table of a draft.
func (s *Store) Table(ctx context.Context, app, id string) ([]byte, error) {
	fields, err := s.rdb.HMGet(ctx, key(app, id), "chunks", "size", "sum").Result()
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	number := func(i int) int { text, _ := fields[i].(string); n, _ := strconv.Atoi(text); return n } // of our own
	chunks, size := number(0), number(1)
	if chunks == 0 {
		return nil, ErrNotFound
	}
	unpacked, err := gzip.NewReader(&chunkReader{ctx: ctx, store: s, app: app, id: id, chunks: chunks})
	if err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	content := bytes.NewBuffer(make([]byte, 0, size))
	if _, err := io.Copy(content, io.LimitReader(unpacked, int64(size)+1)); err != nil {
		return nil, fmt.Errorf("read the table: %w", err)
	}
	if sum := sha256.Sum256(content.Bytes()); hex.EncodeToString(sum[:]) != fields[2] {
		return nil, errors.New("read the table: what Redis has is not what was uploaded")
	}
	return content.Bytes(), nil
}

// chunkReader reads the chunks of a table, one at a time.
type chunkReader struct {
	ctx          context.Context // of one call of Table
	store        *Store
	app, id      string
	next, chunks int
	rest         []byte
}

// Read implements io.Reader.
func (c *chunkReader) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if c.next == c.chunks {
			return 0, io.EOF
		}
		chunk, err := c.store.rdb.Get(c.ctx, chunkKey(c.app, c.id, c.next)).Bytes()
		if errors.Is(err, redis.Nil) {
			err = ErrNotFound
		}
		if err != nil {
			return 0, err
		}
		c.next, c.rest = c.next+1, chunk
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Delete removes a draft.
func (s *Store) Delete(ctx context.Context, app, id string) error {
	keys := []string{key(app, id)}
	chunks, err := s.rdb.HGet(ctx, key(app, id), "chunks").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		return err
	}
	for n := range chunks {
		keys = append(keys, chunkKey(app, id, n))
	}
	return s.rdb.Unlink(ctx, keys...).Err()
}
