package main

import (
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// maxNamedConflicts is how many lines are printed one by one; the rest are counted.
const maxNamedConflicts = 20

// bodyConflicts reports lines whose id was enqueued before with another body.
type bodyConflicts struct {
	program *program
	input   string
	lines   int
}

// add reports the line if r says that its body differs.
func (d *bodyConflicts) add(line int, r tasks.Receipt) {
	if !r.Differs {
		return
	}
	if d.lines++; d.lines <= maxNamedConflicts {
		d.program.notef("%s:%d: not sent: a task with the id %s and another body is already enqueued", d.input, line, r.ID)
	}
}

// logRest prints how many lines add did not name.
func (d *bodyConflicts) logRest() {
	if n := d.lines - maxNamedConflicts; n > 0 {
		d.program.notef("%s: %s more not sent: their ids are already enqueued with other bodies", d.input, summary.Number(n))
	}
}
