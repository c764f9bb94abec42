package journal

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/tasks"
)

// The first line of the file. Another format gets another number. A rehearsal has its own header,
// since a run must not take its tasks as sent.
const (
	header          = `{"wxcourier_journal":1}`
	rehearsalHeader = `{"wxcourier_journal":1,"sandbox":true}`
)

// maxLine is the maximum size of a line: a result has links and WeChat's errmsg, never a body.
const maxLine = 256 << 10

// taskKey is a hash of an app and an id: sixteen bytes of SHA-256, which do not collide by chance.
type taskKey [16]byte

func taskKeyOf(app, id string) taskKey {
	sum := sha256.Sum256([]byte(app + "\x00" + id))
	return taskKey(sum[:16])
}

type appType struct{ app, typ string }

// contents is the content of the file when it was opened.
type contents struct {
	ended        map[taskKey]int64 // offset of the line of the last result
	pending      map[taskKey]PendingRequest
	today        map[appType]int64
	torn         int64 // size of the incomplete last line
	unterminated bool  // the last line is complete, without its line end
}

// scan reads the file, and sets j.size to the end of the last complete line.
func (j *Journal) scan(size int64, now time.Time) error {
	s := &j.loaded
	s.ended, s.pending, s.today = make(map[taskKey]int64), make(map[taskKey]PendingRequest), make(map[appType]int64)
	r := bufio.NewReaderSize(io.NewSectionReader(j.file, 0, size), maxLine)
	for n := 1; ; n++ {
		text, err := r.ReadSlice('\n')
		last := errors.Is(err, io.EOF)
		switch {
		case last && len(text) == 0:
			return nil
		case err != nil && !last && !errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%s: read line %d: %w", j.path, n, err)
		case n == 1:
			if err := j.checkHeader(text, last); err != nil {
				return err
			}
			if last && string(text) != j.header {
				s.torn = int64(len(text)) // nothing else is written before the header is complete
				return nil
			}
		default:
			err := s.apply(text, j.size, now)
			if err != nil && last {
				s.torn = int64(len(text))
				return nil
			}
			if err != nil {
				return j.brokenLine(n, err)
			}
		}
		j.size += int64(len(text))
		if last {
			s.unterminated = true
			return nil
		}
	}
}

// checkHeader returns a *ForeignError if the first line is not the header of this kind of run.
func (j *Journal) checkHeader(text []byte, last bool) error {
	line := strings.TrimRight(string(text), "\r\n")
	if line == j.header || last && strings.HasPrefix(j.header, line) {
		return nil
	}
	var other struct {
		Version *int `json:"wxcourier_journal"`
	}
	switch {
	case line == header:
		return &ForeignError{j.path, "it belongs to a run that sends its tasks, and this is a rehearsal (--sandbox)"}
	case line == rehearsalHeader:
		return &ForeignError{j.path, "it belongs to a rehearsal (--sandbox), which sent nothing to WeChat"}
	case json.Unmarshal(text, &other) == nil && other.Version != nil:
		return &ForeignError{j.path, fmt.Sprintf("it has format %d, and this version of wxcourier reads format 1", *other.Version)}
	}
	return &ForeignError{j.path, "its first line is not " + j.header}
}

func (j *Journal) brokenLine(n int, err error) error {
	return fmt.Errorf("%s: line %d is broken: %w.\nThe line may record that a task was sent, so nothing is sent now. Repair the line, restore the file from a copy, or delete the line if its task may be sent again", j.path, n, err)
}

// parsedEntry contains the fields of a line that are needed to continue a run.
type parsedEntry struct {
	Sending  *Sending
	Returned *taskRef
	Result   *struct {
		App, ID, Type string
		Outcome       tasks.Outcome
		Attempts      int
		FinishedAt    time.Time `json:"finished_at"`
	}
}

// apply adds a line that begins at an offset to the contents.
func (s *contents) apply(text []byte, at int64, now time.Time) error {
	if len(bytes.TrimSpace(text)) == 0 {
		return nil
	}
	var l parsedEntry
	if err := json.Unmarshal(text, &l); err != nil {
		return errors.New("it is not JSON") // the error of encoding/json would quote the line
	}
	switch {
	case l.Sending != nil && tasks.ValidApp(l.Sending.App) && l.Sending.ID != "" && !l.Sending.Since.IsZero():
		s.applySending(*l.Sending, now)
	case l.Returned != nil && l.Returned.ID != "":
		delete(s.pending, taskKeyOf(l.Returned.App, l.Returned.ID))
	case l.Result != nil && l.Result.ID != "" && l.Result.Outcome != "":
		k := taskKeyOf(l.Result.App, l.Result.ID)
		delete(s.pending, k)
		s.ended[k] = at
		if spec, ok := tasks.Lookup(l.Result.Type); ok && spec.Repeat == tasks.Always && sameDay(l.Result.FinishedAt, now) {
			s.today[appType{l.Result.App, l.Result.Type}] += int64(l.Result.Attempts)
		}
	default:
		return errors.New("it is not a sending, returned or result")
	}
	return nil
}

func (s *contents) applySending(sending Sending, now time.Time) {
	if sameDay(sending.Since, now) {
		s.today[appType{sending.App, sending.Type}]++
	}
	k := taskKeyOf(sending.App, sending.ID)
	if _, ended := s.ended[k]; ended {
		return // the first outcome stands
	}
	pending := PendingRequest{Sending: sending, First: sending.Since}
	if before, ok := s.pending[k]; ok {
		pending.First = before.First
	}
	s.pending[k] = pending
}

// sameDay reports whether two times are on the same day, as WeChat counts days.
func sameDay(t, now time.Time) bool {
	const day = "2006-01-02"
	return t.In(calendar.Shanghai()).Format(day) == now.In(calendar.Shanghai()).Format(day)
}

// Outcome reads the result that a task had when the journal was opened.
func (j *Journal) Outcome(app, id string) (r tasks.Result, ended bool, err error) {
	at, ended := j.loaded.ended[taskKeyOf(app, id)]
	if !ended {
		return r, false, nil
	}
	text, err := bufio.NewReader(io.NewSectionReader(j.file, at, maxLine)).ReadBytes('\n')
	if err != nil {
		return r, false, fmt.Errorf("%s: read the result of task %s: %w", j.path, id, err)
	}
	l := entry{Result: &r}
	if err := json.Unmarshal(text, &l); err != nil || r.ID != id || r.App != app {
		return r, false, fmt.Errorf("%s: the result of task %s is not where it was: the file was changed by another program", j.path, id)
	}
	return r, true, nil
}
