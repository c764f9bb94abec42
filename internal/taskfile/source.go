package taskfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/wxcourier/wxcourier/tasks"
)

// An Item is the task of one line, or its error.
type Item struct {
	Line     int // counted from 1
	Envelope tasks.Envelope
	// EarlierID is the id that an earlier version derived from the line; "" if the line has
	// an id of its own.
	EarlierID string
	// Duplicate: an earlier line has a task with the same app and id.
	Duplicate bool
	// Err is a *tasks.ValidationError if the line is not a task, or a *FormatError if it
	// belongs to a file of another format, else nil.
	Err error
}

// Source reads the tasks of one stream. It is not safe for concurrent use. The exported fields
// may be set before [Source.Items] is called.
type Source struct {
	// BeforeRead, if set, is called before each read of the stream, which may block. All
	// complete lines that were read before have been yielded.
	BeforeRead func()
	// Unbounded: the stream may never end, so ids are not remembered, and Duplicate is not
	// set. Only lines without an id need memory.
	Unbounded bool

	lines  *lines
	line   int
	seen   map[taskHash]uint32 // how many lines had the task
	format string              // of the stream, if its first line shows that it is not JSON Lines
}

// taskHash is a hash of an app and an id. It has sixteen bytes of SHA-256, so that two tasks
// never have the same one by chance: the second would be lost as a duplicate.
type taskHash [16]byte

// New returns a Source that reads from r.
func New(r io.Reader) *Source {
	s := &Source{seen: make(map[taskHash]uint32)}
	s.lines = newLines(noticedReader{s, r}, tasks.MaxLine)
	return s
}

// noticedReader calls BeforeRead before each read.
type noticedReader struct {
	source *Source
	io.Reader
}

// Read implements io.Reader.
func (r noticedReader) Read(p []byte) (int, error) {
	if r.source.BeforeRead != nil {
		r.source.BeforeRead()
	}
	return r.Reader.Read(p)
}

// Items yields an Item for each line that is not blank. A task without an id gets one that is
// derived from the line, so that it has the same id when the file is read again; see
// [tasks.LineID]. If reading fails, the error is yielded last.
func (s *Source) Items() iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for {
			line, size, err := s.lines.next()
			if errors.Is(err, io.EOF) {
				return
			}
			s.line++
			if err != nil {
				yield(Item{Line: s.line}, fmt.Errorf("read line %d: %w", s.line, err))
				return
			}
			var item Item
			switch {
			case line == nil && size > 0:
				item = Item{Line: s.line, Err: tooLong(size)}
			case len(bytes.TrimSpace(line)) == 0:
				continue
			default:
				item = s.parse(line)
			}
			if !yield(item, nil) {
				return
			}
		}
	}
}

func tooLong(size int) error {
	return &tasks.ValidationError{Fields: []tasks.FieldError{{
		Problem: fmt.Sprintf("the line has %d bytes; a task has at most %d", size, tasks.MaxLine),
	}}}
}

// parse parses a line and sets a missing id.
func (s *Source) parse(line []byte) Item {
	item := Item{Line: s.line}
	item.Envelope, item.Err = tasks.ParseEnvelope(line)
	if item.Err != nil {
		item.Err = s.recognize(line, item.Err)
		return item
	}
	e := &item.Envelope
	if e.ID == "" {
		e.ID = tasks.LineID(line, 0)
		if earlier := s.countSeen(e.App, e.ID); earlier > 0 { // equal lines are different tasks
			e.ID = tasks.LineID(line, int(earlier))
		}
		item.EarlierID = "f-" + strings.TrimPrefix(e.ID, "f") // before the dash was left out of ids
		return item
	}
	item.Duplicate = !s.Unbounded && s.countSeen(e.App, e.ID) > 0
	return item
}

// countSeen counts a task and returns how many earlier lines had it.
func (s *Source) countSeen(app, id string) uint32 {
	sum := sha256.Sum256([]byte(app + "\x00" + id))
	k := taskHash(sum[:16])
	earlier := s.seen[k]
	s.seen[k] = earlier + 1
	return earlier
}
