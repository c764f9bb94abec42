package apikey

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrInvalid is the error of a key that is wrong, unknown, expired or revoked: which of these is
// not told.
var ErrInvalid = errors.New("apikey: the key is not valid")

// pollInterval is how often the file is read for changes. A change counts when two readings agree,
// so that a file that is being written is not taken half.
const pollInterval = time.Second

// Set is the keys of a file. It is safe for concurrent use. Create it with NewSet.
type Set struct {
	path    string // "": there are no keys, and everybody has that of Local
	log     *slog.Logger
	local   *Key
	current atomic.Pointer[table]

	mu        sync.Mutex
	observers map[*func()]struct{} // guarded by mu

	taken    []byte // the text that the current keys are from
	read     []byte // the text of the last reading
	reported string // the error that was logged last
}

// table is the keys by their ids. It is not changed.
type table struct {
	all  []*Key
	byID map[string]*Key
}

// NewSet returns the set of a file, which [Set.Load] reads. Without a path the set is open: it has
// the key of Local, which every text authenticates. It does no I/O.
func NewSet(path string, log *slog.Logger) *Set {
	s := &Set{path: path, log: log, local: Local(), observers: make(map[*func()]struct{})}
	s.current.Store(&table{})
	return s
}

// Open reports whether there are no keys, because no file was named, so that everything is allowed
// to everybody.
func (s *Set) Open() bool { return s.path == "" }

// Len returns the number of keys, expired ones included.
func (s *Set) Len() int { return len(s.current.Load().all) }

// Authenticate returns the key that a text is, or ErrInvalid. It takes equally long for a wrong
// secret and for an unknown id.
func (s *Set) Authenticate(key string) (*Key, error) {
	if s.Open() {
		return s.local, nil
	}
	sum := sha256.Sum256([]byte(key))
	k, known := s.current.Load().byID[idOf(key)]
	if !known {
		k = &Key{}
	}
	if subtle.ConstantTimeCompare(sum[:], k.hash[:]) != 1 || !known || k.expired(time.Now()) {
		return nil, ErrInvalid
	}
	return k, nil
}

// Get returns the key with an id as it is now; ok is false when it was revoked or has expired.
func (s *Set) Get(id string) (key *Key, ok bool) {
	if s.Open() {
		return s.local, id == s.local.ID
	}
	k, ok := s.current.Load().byID[id]
	if !ok || k.expired(time.Now()) {
		return nil, false
	}
	return k, true
}

// OnChange calls f after each change of the keys, until stop is called. f must not block or call
// methods of the set.
func (s *Set) OnChange(f func()) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers[&f] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.observers, &f)
	}
}

// Load reads the file for the first time. The error of a file with mistakes is a *FileError.
func (s *Set) Load() error {
	if s.Open() {
		return nil
	}
	f, text, err := readFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist; `wxcourier key new --id ID` makes it, with a first key", s.path)
	}
	if err != nil {
		return err
	}
	if mode, loose := LooseMode(s.path); loose {
		s.log.Warn("other users can read or change the file of the keys: chmod 600 it", "file", s.path, "mode", fmt.Sprintf("%04o", mode))
	}
	s.read = text
	s.take(f, text)
	return nil
}

// Run reads the file again when it changes, until ctx ends. While the file is not there or has
// mistakes, which are logged, the keys stay as they are.
func (s *Set) Run(ctx context.Context) {
	if s.Open() {
		return
	}
	t := time.NewTicker(pollInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.poll()
		}
	}
}

// poll reads the file, and takes a change over that the last reading showed too.
func (s *Set) poll() {
	text, err := readText(s.path)
	stable := bytes.Equal(text, s.read)
	s.read = text
	switch {
	case !stable:
	case err != nil:
		s.report(err)
	case bytes.Equal(text, s.taken):
		s.reported = ""
	default:
		f, err := parse(s.path, text)
		if err != nil {
			s.report(err)
			return
		}
		s.reported = ""
		s.take(f, text)
	}
}

// report logs why the file cannot be used, once.
func (s *Set) report(err error) {
	if err.Error() != s.reported {
		s.reported = err.Error()
		s.log.Error("the file of the keys cannot be read; the keys stay as they were", "err", err)
	}
}

// take makes the keys of a file the current ones.
func (s *Set) take(f *file, text []byte) {
	if f.whole < len(text) {
		s.log.Warn("the last line of the file of the keys is cut off, and ignored; `wxcourier key new` removes it", "file", s.path)
	}
	before := s.current.Load()
	next := &table{all: f.keys, byID: make(map[string]*Key, len(f.keys))}
	for _, k := range f.keys {
		if old, ok := before.byID[k.ID]; ok && old.hash == k.hash && old.Rate == k.Rate {
			k.limiter = old.limiter // reading the file again grants no requests
		}
		next.byID[k.ID] = k
	}
	first := s.taken == nil
	s.taken = text
	s.current.Store(next)
	if first {
		s.log.Debug("the keys were read", "keys", len(next.all))
		return
	}
	s.log.Info("the file of the keys changed", "keys", len(next.all), "before", len(before.all))
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.observers {
		(*f)()
	}
}
