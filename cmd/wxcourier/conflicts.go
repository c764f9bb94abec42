package main

import (
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// maxNamedConflicts is how many lines are named: a file whose ids all differ shall not bury
// everything else.
const maxNamedConflicts = 20

// bodyConflicts tells of lines whose ids are known with other bodies.
type bodyConflicts struct {
	program *program
	input   string
	lines   int
}

// add names a line, where it is one.
func (d *bodyConflicts) add(line int, r tasks.Receipt) {
	if !r.Differs {
		return
	}
	if d.lines++; d.lines <= maxNamedConflicts {
		d.program.notef("%s:%d: not sent: a task with the id %s and another body is already enqueued", d.input, line, r.ID)
	}
}

// logRest says how many lines were not named.
func (d *bodyConflicts) logRest() {
	if n := d.lines - maxNamedConflicts; n > 0 {
		d.program.notef("%s: %s more not sent: their ids are already enqueued with other bodies", d.input, summary.Number(n))
	}
}
