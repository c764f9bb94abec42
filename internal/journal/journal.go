package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// Sending is a request that is about to be sent and is not safe to repeat.
type Sending struct {
	App     string    `json:"app"`
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Attempt int       `json:"attempt"`
	Since   time.Time `json:"since"`
}

// PendingRequest is a Sending without an answer in the journal.
type PendingRequest struct {
	Sending
	First time.Time // Since of the task's first request without an answer
}

// Calls is the number of calls of a type that an app is known to have made.
type Calls struct {
	App, Type string
	N         int64
}

// File is the storage of a journal. *os.File implements it.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// Option configures a Journal.
type Option func(*Journal)

// WithFile wraps the journal's file. Tests use it to simulate a disk that fails.
func WithFile(wrap func(File) File) Option {
	return func(j *Journal) { j.file = wrap(j.file) }
}

// ForSandbox opens the journal of a rehearsal, which sends nothing to WeChat. A rehearsal
// cannot continue the journal of a run that sends, nor the other way round.
func ForSandbox() Option { return func(j *Journal) { j.header = rehearsalHeader } }

// Journal is an open journal. It is safe for concurrent use, and must be closed.
type Journal struct {
	file   File
	path   string
	header string
	unlock func()
	loaded contents
	size   int64 // bytes on disk; used by the writer only

	writer sync.WaitGroup
	wake   chan struct{} // holds one token while lines wait

	mu     sync.Mutex
	buffer []byte  // guarded by mu; lines to be written
	next   *commit // guarded by mu; the commit of those lines
	failed error   // guarded by mu; the first write error: no further line is accepted
	closed bool    // guarded by mu, as is sending on wake
}

// commit is one write of several lines.
type commit struct {
	done chan struct{}
	err  error // set before done is closed
}

func newCommit() *commit { return &commit{done: make(chan struct{})} }

// ForeignError means that a file is not a journal that this run can continue. The file is not
// changed.
type ForeignError struct{ Path, Why string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is not a journal of this run: %s.\nName a file that does not exist yet, or the journal of an earlier run of this kind.", e.Path, e.Why)
}

// ErrInUse means that another process has the journal open.
var ErrInUse = errors.New("another run has this journal open; wait until it ends, or use another journal file")

// ErrClosed is returned by writes after Close.
var ErrClosed = errors.New("journal: closed")

// Open opens a journal and reads it, or creates a new one. The error may be a *ForeignError or
// ErrInUse.
func Open(path string, options ...Option) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the user names the file
	if err != nil {
		return nil, fmt.Errorf("open the journal: %w", err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &ForeignError{path, "it is not a regular file"}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	unlock, err := lock(file)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	j := &Journal{file: file, path: path, header: header, unlock: unlock, wake: make(chan struct{}, 1), next: newCommit()}
	for _, option := range options {
		option(j)
	}
	if err := j.load(file, time.Now()); err != nil {
		_ = j.file.Close()
		unlock()
		return nil, err
	}
	j.writer.Go(j.writeLoop)
	return j, nil
}

// load reads the file, cuts off a torn last line, and writes the header of an empty file.
func (j *Journal) load(file io.Seeker, now time.Time) error {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("read the journal: %w", err)
	}
	if err := j.scan(size, now); err != nil {
		return err
	}
	if j.size < size {
		if err := j.file.Truncate(j.size); err != nil {
			return fmt.Errorf("%s: cut off the incomplete last line: %w", j.path, err)
		}
	}
	var missing []byte
	switch {
	case j.size == 0:
		missing = []byte(j.header + "\n")
	case j.loaded.unterminated:
		missing = []byte("\n")
	default:
		return nil
	}
	if err := j.writeAndSync(missing); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if folder, err := os.Open(filepath.Dir(j.path)); err == nil {
		_ = folder.Sync() // makes the file's name durable; not every system supports it
		_ = folder.Close()
	}
	return nil
}

// Torn returns the size of an incomplete last line that Open has cut off; 0 for none.
func (j *Journal) Torn() int64 { return j.loaded.torn }

// Ended returns how many tasks had an outcome when the journal was opened.
func (j *Journal) Ended() int { return len(j.loaded.ended) }

// PendingRequests returns how many tasks had a PendingRequest when the journal was opened.
func (j *Journal) PendingRequests() int { return len(j.loaded.pending) }

// PendingRequest returns the request of a task that had no answer when the journal was opened.
func (j *Journal) PendingRequest(app, id string) (PendingRequest, bool) {
	r, ok := j.loaded.pending[taskKeyOf(app, id)]
	return r, ok
}

// CallsToday returns the calls in the journal when it was opened, of the day of that time.
func (j *Journal) CallsToday() []Calls {
	var all []Calls
	for of, n := range j.loaded.today {
		all = append(all, Calls{of.app, of.typ, n})
	}
	return all
}

// Sending records that a request is about to be sent. When it returns nil, the line is on disk.
// When ctx ends first, it records that the request was not sent.
func (j *Journal) Sending(ctx context.Context, s Sending) error {
	c, err := j.append(entry{Sending: &s})
	if err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		j.Returned(s.App, s.ID)
		return ctx.Err()
	}
}

// Returned records that WeChat certainly did not accept the request of Sending. It does not wait
// for the disk: if the line is lost, the task ends as unknown and is not sent twice.
func (j *Journal) Returned(app, id string) {
	_, _ = j.append(entry{Returned: &taskRef{app, id}})
}

// Results records outcomes. When it returns nil, they are on disk.
func (j *Journal) Results(all []tasks.Result) error {
	var last *commit
	for i := range all {
		var err error
		if last, err = j.append(entry{Result: &all[i]}); err != nil {
			return err
		}
	}
	if last == nil {
		return nil
	}
	<-last.done // after an error all later commits fail as well
	return last.err
}

// Close writes the buffered lines and closes the file.
func (j *Journal) Close() error {
	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		return nil
	}
	j.closed = true
	close(j.wake)
	j.mu.Unlock()
	j.writer.Wait()
	j.flush()
	err := j.file.Close()
	j.unlock()
	if err != nil {
		return fmt.Errorf("close the journal: %w", err)
	}
	return nil
}
