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

// Sending is a request that is about to be written, and is not safe to repeat.
type Sending struct {
	App     string    `json:"app"`
	ID      string    `json:"id"`
	Type    string    `json:"type"`
	Attempt int       `json:"attempt"`
	Since   time.Time `json:"since"`
}

// PendingRequest is a Sending whose answer is not in the journal.
type PendingRequest struct {
	Sending
	First time.Time // of the task's requests without an answer: Since, or that of an earlier one
}

// Calls is how many calls of a type an app is known to have made.
type Calls struct {
	App, Type string
	N         int64
}

// File is what a journal is kept in. *os.File is one.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// Option changes a Journal from its defaults.
type Option func(*Journal)

// WithFile puts something between the journal and its file: for tests, a disk that fails.
func WithFile(between func(File) File) Option {
	return func(j *Journal) { j.file = between(j.file) }
}

// ForRehearsal is for a journal of what is sent to nobody. It cannot be continued by a run
// that sends, nor the other way round.
func ForRehearsal() Option { return func(j *Journal) { j.header = rehearsalHeader } }

// Journal is an open journal. It is safe for concurrent use. Close it.
type Journal struct {
	file   File
	path   string
	header string
	unlock func()
	loaded contents
	size   int64 // of what is on disk; of the writer alone

	writer sync.WaitGroup
	wake   chan struct{} // holds one token while lines wait

	mu     sync.Mutex
	buffer []byte  // guarded by mu; lines that wait for the writer
	next   *commit // guarded by mu; of those lines
	failed error   // guarded by mu; no line is taken any more
	closed bool    // guarded by mu; so is the sending on wake
}

// commit is one write of the lines that came together.
type commit struct {
	done chan struct{}
	err  error // written before done is closed
}

func newCommit() *commit { return &commit{done: make(chan struct{})} }

// ForeignError says that a file is no journal that this version can continue. It is left
// as it was.
type ForeignError struct{ Path, Why string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s is no journal for this run: %s.\nName a file that is not there yet, or the journal of an earlier run of this kind.", e.Path, e.Why)
}

// ErrInUse says that another process has the journal open.
var ErrInUse = errors.New("another run has this journal open; wait for it to end, or give this one a journal of its own")

// ErrClosed says that a line came after Close.
var ErrClosed = errors.New("the journal is closed")

// Open opens a journal and reads it, or begins a new one. The error may be a
// *ForeignError or ErrInUse.
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

// load reads what is there, mends its end, and begins a file that is empty.
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
			return fmt.Errorf("%s: cut off its torn last line: %w", j.path, err)
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
		_ = folder.Sync() // the file's name; not every system can
		_ = folder.Close()
	}
	return nil
}

// Torn is the size of a last line that a broken-off write had left, and that was cut off;
// 0 for none.
func (j *Journal) Torn() int64 { return j.loaded.torn }

// Ended is how many tasks had an outcome when the journal was opened.
func (j *Journal) Ended() int { return len(j.loaded.ended) }

// PendingRequests is how many tasks had a Standing when the journal was opened.
func (j *Journal) PendingRequests() int { return len(j.loaded.pending) }

// PendingRequest is the request of a task that had no answer when the journal was opened.
func (j *Journal) PendingRequest(app, id string) (PendingRequest, bool) {
	s, ok := j.loaded.pending[taskKeyOf(app, id)]
	return s, ok
}

// CallsToday counts the calls that the journal knew of when it was opened, of the day of
// then.
func (j *Journal) CallsToday() []Calls {
	var all []Calls
	for of, n := range j.loaded.today {
		all = append(all, Calls{of.app, of.typ, n})
	}
	return all
}

// Sending writes that a request is about to be written. When it returns nil, that is on
// disk. When ctx ends meanwhile, the request counts as not written.
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

// Returned writes that the request that Sending told of was surely not taken. It does not
// wait for the disk: were the line lost, the task would end as unknown, and not be doubled.
func (j *Journal) Returned(app, id string) {
	_, _ = j.append(entry{Returned: &taskRef{app, id}})
}

// Results writes outcomes. When it returns nil, they are on disk.
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
	<-last.done // a failure of an earlier commit is one of the later, too
	return last.err
}

// Close waits for what was added and closes the file.
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
