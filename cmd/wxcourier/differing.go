package main

import (
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// mostDiffering is how many lines are named: a file whose ids all differ shall not bury
// everything else.
const mostDiffering = 20

// differing tells of lines whose ids are known with other bodies.
type differing struct {
	program *program
	input   string
	lines   int
}

// tell names a line, where it is one.
func (d *differing) tell(line int, r tasks.Receipt) {
	if !r.Differs {
		return
	}
	if d.lines++; d.lines <= mostDiffering {
		d.program.say("%s:%d: not sent: a task with the id %s and another body is already enqueued", d.input, line, r.ID)
	}
}

// rest says how many lines were not named.
func (d *differing) rest() {
	if n := d.lines - mostDiffering; n > 0 {
		d.program.say("%s: %s more not sent: their ids are already enqueued with other bodies", d.input, summary.Number(n))
	}
}
