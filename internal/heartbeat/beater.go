package heartbeat

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
)

const (
	// beatTimeout bounds one beat.
	beatTimeout = 3 * time.Second
	// removeTimeout bounds how long a process that stops waits for Redis to take it off the list.
	removeTimeout = time.Second
)

// NewID returns an id for an entry of the list.
func NewID() string { return strings.ToLower(rand.Text()[:10]) }

// Beater keeps a process in the list. Create it with NewBeater.
type Beater struct {
	rdb           redis.UniversalClient
	id            string
	kind          Kind
	load          func(*Replica) // sets Apps, Lanes and Active
	log           *slog.Logger
	now           chan struct{} // holds one token when the entry has changed
	configuration atomic.Pointer[Configuration]
}

// NewBeater returns a Beater. load sets what changes in the entry; it may be nil. It does no I/O.
func NewBeater(rdb redis.UniversalClient, kind Kind, id string, load func(*Replica), log *slog.Logger) *Beater {
	return &Beater{rdb: rdb, id: id, kind: kind, load: load, log: log, now: make(chan struct{}, 1)}
}

// SetConfiguration sets what the entry tells about the configuration. It may be called at any time,
// from any goroutine.
func (b *Beater) SetConfiguration(c Configuration) {
	b.configuration.Store(&c)
	b.BeatNow()
}

// BeatNow renews the entry soon.
func (b *Beater) BeatNow() {
	select {
	case b.now <- struct{}{}:
	default:
	}
}

// Run keeps the process in the list until ctx ends, whether it has work or not. stopping is closed
// when the process begins to stop.
func (b *Beater) Run(ctx context.Context, stopping <-chan struct{}) {
	entry := Replica{
		ID: b.id, Kind: b.kind, PID: os.Getpid(), Version: buildinfo.Version(), Started: time.Now().Truncate(time.Second),
	}
	entry.Host, _ = os.Hostname()
	ticker := time.NewTicker(Every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		b.beat(ctx, entry)
		select {
		case <-ticker.C:
		case <-b.now:
		case <-stopping:
			entry.Stopping, stopping = true, nil
		case <-ctx.Done():
		}
	}
	removed := make(chan struct{})
	go func() { // Redis may hang, and the shutdown must not
		defer close(removed)
		_ = Remove(context.WithoutCancel(ctx), b.rdb, b.id) // it is forgotten later
	}()
	select {
	case <-removed:
	case <-time.After(removeTimeout):
	}
}

// beat writes the entry.
func (b *Beater) beat(ctx context.Context, entry Replica) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	entry.Configuration = b.configuration.Load()
	if b.load != nil {
		b.load(&entry)
	}
	if err := Beat(ctx, b.rdb, entry); err != nil {
		b.log.Debug("the heartbeat could not be written", slog.Any("err", err)) // others log that Redis is away
	}
}
