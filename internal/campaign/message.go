package campaign

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/tasks"
)

// rowKey identifies a row within its batch: a hash of its receiver.
type rowKey uint64

// message is the task of a row.
type message struct {
	line     int
	key      rowKey
	receiver string // "" for types without one
	envelope tasks.Envelope
	warning  string // what does not fit the message template, where that is no fault
}

// builder makes the tasks of a plan's rows.
type builder struct {
	plan    Plan
	now     time.Time
	columns []int          // of the template's places, in their order
	used    []int          // the columns that occur in places, each once
	byPath  map[string]int // the first column of a place, by the path of its value
	head    []byte         // the JSON of the fields that are the same for all rows
	line    []byte         // the JSON of the current row
}

// newBuilder returns a builder for a complete plan.
func newBuilder(p Plan, now time.Time) *builder {
	b := &builder{plan: p, now: now, byPath: make(map[string]int)}
	for _, at := range p.Template.places {
		column := slices.Index(p.Table.Columns, at.column)
		b.columns = append(b.columns, column)
		if !slices.Contains(b.used, column) {
			b.used = append(b.used, column)
		}
		if _, ok := b.byPath[at.path]; !ok {
			b.byPath[at.path] = column
		}
	}
	b.head = strictjson.AppendQuote([]byte(`{"type":`), p.Type)
	b.head = strictjson.AppendQuote(append(b.head, `,"app":`...), p.App)
	b.head = strictjson.AppendQuote(append(b.head, `,"batch":`...), p.Batch)
	return b
}

// build makes the task of a row. It returns all faults of the row; the message then may have a
// receiver, and no more.
func (b *builder) build(row table.Row) (message, []RowFault) {
	m := message{line: row.Line}
	if faults := b.cellFaults(row); len(faults) > 0 {
		return m, faults
	}
	if faults := b.render(row); len(faults) > 0 {
		return m, faults
	}
	e, err := tasks.ParseEnvelope(b.line)
	if err != nil {
		return m, b.faultsOf(row.Line, err)
	}
	m.receiver = e.Receiver()
	sum := identity(b.plan.Batch, m.receiver, e.Body)
	m.key = rowKey(binary.BigEndian.Uint64(sum[:]))
	if !b.plan.At.IsZero() {
		e.ProcessAt = b.plan.At
	}
	e.ID = idOf(sum)
	if m.warning, err = e.PrepareFor(b.plan.Templates, b.now); err != nil {
		return m, b.faultsOf(row.Line, err)
	}
	if !e.NotAfter.IsZero() && !e.NotAfter.After(b.now) {
		return m, []RowFault{{Line: row.Line, Column: b.columnOf("not_after"), Path: "not_after", Problem: "has passed: the message would not be sent"}}
	}
	m.envelope = e
	return m, nil
}

// cellFaults returns the problems of the cells that the template uses.
func (b *builder) cellFaults(row table.Row) (faults []RowFault) {
	if row.Extra != "" {
		faults = append(faults, RowFault{Line: row.Line, Problem: "a cell in column " + row.Extra + ", which has no header: is a delimiter inside of a cell?"})
	}
	for _, column := range b.used {
		if problem := row.Problems[column]; problem != "" {
			faults = append(faults, RowFault{Line: row.Line, Column: b.plan.Table.Columns[column], Problem: problem})
		}
	}
	return faults
}

// render writes the JSON of a row's envelope.
func (b *builder) render(row table.Row) (faults []RowFault) {
	b.line = append(b.line[:0], b.head...)
	next := 0
	for _, s := range b.plan.Template.segments {
		if s.place == nil {
			b.line = append(b.line, s.text...)
			continue
		}
		column := b.columns[next]
		next++
		text, err := s.place.fill(row.Cells[column])
		switch {
		case err != nil:
			if f := (RowFault{Line: row.Line, Column: s.place.column, Problem: err.Error()}); !slices.Contains(faults, f) {
				faults = append(faults, f)
			}
		case s.place.bare:
			b.line = append(b.line, text...)
		default: // inside of a string
			start := len(b.line)
			b.line = strictjson.AppendQuote(b.line, text)
			b.line = append(b.line[:start], b.line[start+1:len(b.line)-1]...)
		}
	}
	b.line = append(b.line, '}')
	return faults
}

// faultsOf returns the faults of an envelope, each with the column that its value comes from.
func (b *builder) faultsOf(line int, err error) []RowFault {
	var invalid *tasks.ValidationError
	if !errors.As(err, &invalid) {
		return []RowFault{{Line: line, Problem: err.Error()}}
	}
	faults := make([]RowFault, 0, len(invalid.Fields))
	for _, f := range invalid.Fields {
		faults = append(faults, RowFault{Line: line, Column: b.columnOf(f.Path), Path: f.Path, Problem: f.Problem})
	}
	return faults
}

// columnOf returns the name of the column that the value at a path comes from; "": from none.
func (b *builder) columnOf(path string) string {
	if column, ok := b.byPath[path]; ok {
		return b.plan.Table.Columns[column]
	}
	return ""
}

// identity is a hash of what a batch has at most once: a receiver, or for types without one a body.
func identity(batch, receiver string, body []byte) [sha256.Size]byte {
	text := make([]byte, 0, len(batch)+len(receiver)+2)
	text = append(append(append(text, batch...), 0), receiver...)
	if receiver == "" {
		text = append(append(text, 0), body...)
	}
	return sha256.Sum256(text)
}

// idLetters makes ids that a person can read aloud.
const idLetters = "abcdefghijklmnopqrstuvwxyz234567"

// idOf returns the id of a row's task.
func idOf(sum [sha256.Size]byte) string {
	const bytes = 10 // 80 bits: among a million rows two ids are equal once in 2 trillion batches
	return "s" + base32.NewEncoding(idLetters).WithPadding(base32.NoPadding).EncodeToString(sum[:bytes])
}

// mask returns a body for people, in which only the beginning of the receiver's openid is left.
func mask(body []byte, receiver string) string {
	if receiver == "" {
		return string(body)
	}
	const kept = 4
	short := "…"
	if r := []rune(receiver); len(r) > 2*kept {
		short = string(r[:kept]) + "…"
	} else if len(r) > kept {
		short = string(r[:1]) + "…"
	}
	quoted := string(strictjson.AppendQuote(nil, receiver))
	return strings.ReplaceAll(string(body), quoted, string(strictjson.AppendQuote(nil, short)))
}
