package resultlog

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/background"
	"github.com/wxcourier/wxcourier/internal/ledger"
)

const (
	pollInterval = 200 * time.Millisecond
	pollEntries  = 1000        // of an app at a time
	maxPollPause = time.Second // after errors
	recentMax    = 2000        // entries of an app that are kept for subscriptions
)

// A Follower reads the results of apps as they are recorded, once for all subscriptions of this
// process: however many there are, it sends one pipeline of two commands an app, five times a
// second. While there is no subscription it reads nothing. A subscription that is further behind
// than the last 2,000 results of an app reads the older ones by itself.
type Follower struct {
	reader *Reader
	log    *slog.Logger
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // of the goroutine, which begins with the first subscription
	done   sync.WaitGroup

	mu      sync.Mutex
	running bool             // guarded by mu: the goroutine runs
	apps    map[string]*tail // guarded by mu: the apps with subscriptions
	changed chan struct{}    // guarded by mu: closed when entries were read, or could not be
}

// tail is the last entries of one app.
type tail struct {
	subscriptions int
	ready         bool     // start and end are known
	start         Position // all entries after it are in entries
	end           Position // of the last entry
	entries       []Entry
}

// NewFollower returns a Follower. It does no I/O. Close ends it.
func NewFollower(rdb redis.UniversalClient, log *slog.Logger) *Follower {
	f := &Follower{reader: NewReader(rdb, log), log: log, apps: make(map[string]*tail), changed: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// Close ends the reading. There must be no subscription any more.
func (f *Follower) Close() {
	f.cancel()
	f.done.Wait()
}

// Subscribe returns a subscription to the results of some apps after a position. Apps that the
// cursor does not have begin with the next result that is recorded.
func (f *Follower) Subscribe(apps []string, from Cursor) *Subscription {
	s := &Subscription{follower: f, at: make(Cursor, len(apps))}
	s.add(apps, from)
	return s
}

// run reads until there is no subscription any more.
func (f *Follower) run() {
	defer f.done.Done()
	for pause := pollInterval; ; {
		apps := f.followed()
		if len(apps) == 0 {
			return
		}
		more, err := f.poll(apps)
		switch {
		case f.ctx.Err() != nil:
			return
		case err != nil:
			f.log.Warn("cannot follow the results; trying again", slog.Any("err", err))
			f.reset()
			pause = min(2*pause, maxPollPause)
		default:
			pause = pollInterval
		}
		if !more {
			background.Sleep(f.ctx, pause)
		}
	}
}

// followed returns the apps with subscriptions. Without any, the goroutine has to end.
func (f *Follower) followed() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.apps) == 0 || f.ctx.Err() != nil {
		f.running = false
		return nil
	}
	apps := make([]string, 0, len(f.apps))
	for app := range f.apps {
		apps = append(apps, app)
	}
	return apps
}

// poll reads what is new. more is true if there may be further entries now.
func (f *Follower) poll(apps []string) (more bool, err error) {
	ready, reads := f.reads(apps)
	if !ready {
		err := f.begin(apps)
		return err == nil, err
	}
	pages, err := f.reader.ledger.ReadStreams(f.ctx, reads, pollEntries)
	if err != nil {
		return false, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, page := range pages {
		t := f.apps[reads[i].App]
		if t == nil || t.end.String() != reads[i].After {
			continue // its last subscription has ended meanwhile
		}
		f.append(t, reads[i], page)
		more = more || len(page.Entries) == pollEntries
	}
	return more, nil
}

// reads returns what to read; ready is false if the end of the stream of an app is not known.
func (f *Follower) reads(apps []string) (ready bool, reads []ledger.StreamRead) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ready = true
	for _, app := range apps {
		if t := f.apps[app]; t != nil {
			ready = ready && t.ready
			reads = append(reads, ledger.StreamRead{App: app, After: t.end.String()})
		}
	}
	return ready, reads
}

// begin reads the ends of streams.
func (f *Follower) begin(apps []string) error {
	ends, err := f.reader.ledger.StreamEnds(f.ctx, apps)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, app := range apps {
		if t := f.apps[app]; t != nil && !t.ready {
			t.start = parsePosition(ends[i])
			t.end, t.ready = t.start, true
		}
	}
	f.notify()
	return nil
}

// append adds a page to a tail. If entries before the page are missing, the tail begins anew:
// subscriptions that are behind it read by themselves, and notice the gap.
func (f *Follower) append(t *tail, read ledger.StreamRead, page ledger.StreamPage) {
	if page.Cut.After(read.After) {
		t.entries, t.start = nil, parsePosition(page.Cut.ID)
		t.end = t.start
	}
	for _, entry := range page.Entries {
		at := parsePosition(entry.ID)
		if at.compare(t.end) <= 0 {
			continue
		}
		t.end = at
		if e, ok := f.reader.decode(read.App, entry); ok {
			t.entries = append(t.entries, e)
		}
	}
	if over := len(t.entries) - recentMax; over > 0 {
		t.start = t.entries[over-1].At
		t.entries = slices.Clone(t.entries[over:]) // a subscription may still read the old ones
	}
	if len(page.Entries) > 0 || page.Cut.After(read.After) {
		f.notify()
	}
}

// reset forgets all entries, since it is unknown what happens while Redis does not answer.
func (f *Follower) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.apps {
		*t = tail{subscriptions: t.subscriptions}
	}
}

// nextChange returns a channel that is closed with the next change.
func (f *Follower) nextChange() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

// notify wakes the subscriptions. f.mu is held.
func (f *Follower) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// Subscriptions returns the number of subscriptions, an app each.
func (f *Follower) Subscriptions() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range f.apps {
		n += t.subscriptions
	}
	return n
}
