package journal

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/wxcourier/wxcourier/tasks"
)

// entry is a line of the file, with one of its fields set.
type entry struct {
	Sending  *Sending      `json:"sending,omitempty"`
	Returned *taskRef      `json:"returned,omitempty"`
	Result   *tasks.Result `json:"result,omitempty"`
}

type taskRef struct {
	App string `json:"app"`
	ID  string `json:"id"`
}

func encode(l entry) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(l); err != nil { // cannot fail on strings, numbers and times
		panic(fmt.Sprintf("encode a line of the journal: %v", err))
	}
	return b.Bytes()
}

// append adds a line to the buffer, and returns the commit that will write it.
func (j *Journal) append(l entry) (*commit, error) {
	text := encode(l)
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.failed != nil:
		return nil, j.failed
	case j.closed:
		return nil, ErrClosed
	}
	j.buffer = append(j.buffer, text...)
	select {
	case j.wake <- struct{}{}:
	default: // the writer has a wake-up pending
	}
	return j.next, nil
}

// writeLoop writes the lines that were added during the previous write, until wake is closed.
func (j *Journal) writeLoop() {
	for range j.wake {
		j.flush()
	}
}

// flush writes the buffered lines as one commit.
func (j *Journal) flush() {
	j.mu.Lock()
	batch, c, err := j.buffer, j.next, j.failed
	j.buffer, j.next = nil, newCommit()
	j.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	if err == nil {
		err = j.writeAndSync(batch)
	}
	j.mu.Lock()
	j.failed = err
	j.mu.Unlock()
	c.err = err
	close(c.done)
}

// writeAndSync writes lines after the last one that is on disk. After an error it is unknown
// which of them are on disk, so it tries to truncate the file: a sending whose write failed must
// not be read as one that was made.
func (j *Journal) writeAndSync(batch []byte) error {
	_, err := j.file.WriteAt(batch, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		if j.file.Truncate(j.size) == nil {
			_ = j.file.Sync()
		}
		return err
	}
	j.size += int64(len(batch))
	return nil
}
