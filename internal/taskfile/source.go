package taskfile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/wxcourier/wxcourier/tasks"
)

// An Item is what one line holds.
type Item struct {
	Line     int // counted from 1
	Envelope tasks.Envelope
	// Duplicate: an earlier line has the same app and id. It is no task of its own.
	Duplicate bool
	// Err says why the line is no task: a *tasks.ValidationError.
	Err error
}

// Source reads the tasks of one stream. It is for one goroutine.
type Source struct {
	lines *lines
	line  int
	seen  map[taskHash]uint32 // how often a task was met
}

// taskHash stands for an app and an id. Sixteen bytes of SHA-256 never meet by chance, so
// that no task is lost as the duplicate of another.
type taskHash [16]byte

// New reads from r.
func New(r io.Reader) *Source {
	return &Source{lines: newLines(r, tasks.MaxLine), seen: make(map[taskHash]uint32)}
}

// Items yields what each line holds; blank lines are left out. A line without an id
// gets one that is made of its text, so that reading the file again names the same
// tasks. When the stream breaks off, its error is the last thing that is yielded.
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
			if line == nil && size > 0 {
				if !yield(Item{Line: s.line, Err: tooLong(size)}, nil) {
					return
				}
				continue
			}
			if len(bytes.TrimSpace(line)) == 0 {
				continue
			}
			if !yield(s.parse(line), nil) {
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

func (s *Source) parse(line []byte) Item {
	item := Item{Line: s.line}
	item.Envelope, item.Err = tasks.ParseEnvelope(line)
	if item.Err != nil {
		return item
	}
	e := &item.Envelope
	if e.ID == "" {
		e.ID = tasks.LineID(line, 0)
		if earlier := s.countSeen(e.App, e.ID); earlier > 0 { // equal lines are tasks of their own
			e.ID = tasks.LineID(line, int(earlier))
		}
		return item
	}
	item.Duplicate = s.countSeen(e.App, e.ID) > 0
	return item
}

// countSeen counts a task, and returns how often it was met before.
func (s *Source) countSeen(app, id string) uint32 {
	sum := sha256.Sum256([]byte(app + "\x00" + id))
	k := taskHash(sum[:16])
	earlier := s.seen[k]
	s.seen[k] = earlier + 1
	return earlier
}
