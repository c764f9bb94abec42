package journal

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/wxcourier/wxcourier/tasks"
)

// entry is what a line is written as: one of these.
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
	if err := e.Encode(l); err != nil { // strings, numbers and times: it cannot fail
		panic(fmt.Sprintf("encode a line of the journal: %v", err))
	}
	return b.Bytes()
}

// append puts a line behind those that wait to be written.
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
	default: // the writer is awake
	}
	return j.next, nil
}

// writeLoop writes what has come together while the write before was under way.
func (j *Journal) writeLoop() {
	for range j.wake {
		j.flush()
	}
}

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

// writeAndSync writes lines behind the last that is on disk. After a failure nobody knows what
// the disk has of them, so they are taken back as far as that goes: a sending that was
// refused is not to be read as one that was made.
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
