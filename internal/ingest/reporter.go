package ingest

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

// maxNamedConflicts is how many lines with a conflicting body are named; the rest are counted.
const maxNamedConflicts = 20

// Reporter prints what is wrong with the lines of a stream: invalid lines, duplicates, warnings, and
// ids that were enqueued before with another body. Its methods are the callbacks of [Options]; they
// may be called concurrently. Call Close after the last line.
type Reporter struct {
	// Out gets one line a message. Each begins with Input, the name of the stream, and the
	// number of the line.
	Out   io.Writer
	Input string
	// Quiet leaves out warnings and duplicates, whose tasks are delivered all the same.
	Quiet bool

	mu        sync.Mutex
	warned    map[string]bool // guarded by mu; the warnings that were printed
	conflicts int             // guarded by mu; lines with another body
}

func (r *Reporter) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(r.Out, format+"\n", args...)
}

// BadLine prints each fault of an invalid line on a line of its own. Of a file of another format
// it prints the first line only.
func (r *Reporter) BadLine(line int, err error) {
	var format *taskfile.FormatError
	if errors.As(err, &format) && !format.First {
		return
	}
	var invalid *tasks.ValidationError
	if !errors.As(err, &invalid) {
		r.printf("%s:%d: %v", r.Input, line, err)
		return
	}
	for _, fault := range invalid.Fields {
		r.printf("%s:%d: %s", r.Input, line, fault)
	}
}

// Enqueued prints each warning once. A line whose body conflicts with the enqueued one is reported
// also with Quiet, since its message is not sent.
func (r *Reporter) Enqueued(line int, receipt tasks.Receipt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if receipt.Differs {
		if r.conflicts++; r.conflicts <= maxNamedConflicts {
			r.printf("%s:%d: not sent: a task with the id %s and another body is already enqueued", r.Input, line, receipt.ID)
		}
	}
	if receipt.Warning == "" || r.Quiet || r.warned[receipt.Warning] {
		return
	}
	if r.warned == nil {
		r.warned = make(map[string]bool)
	}
	r.warned[receipt.Warning] = true
	r.printf("%s:%d: warning: %s", r.Input, line, receipt.Warning)
}

// Duplicate prints that an earlier line has the task's id.
func (r *Reporter) Duplicate(line int, e tasks.Envelope) {
	if !r.Quiet {
		r.printf("%s:%d: already enqueued: an earlier line has the id %s", r.Input, line, e.ID)
	}
}

// Close prints how many lines with a conflicting body were not named.
func (r *Reporter) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.conflicts - maxNamedConflicts; n > 0 {
		r.printf("%s: %s more not sent: their ids are already enqueued with other bodies", r.Input, summary.Number(n))
	}
}
