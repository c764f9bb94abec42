package campaign

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/campaign/table"
	"github.com/wxcourier/wxcourier/tasks"
)

// RowFault says why a row cannot be sent. It contains no cell of the table.
type RowFault struct {
	Line    int    `json:"line"`
	Column  string `json:"column,omitempty"` // the column at fault; "": the whole row, or a value that comes from no column
	Path    string `json:"path,omitempty"`   // of the value in the envelope, such as body.data.thing1.value
	Problem string `json:"problem"`
	First   int    `json:"first,omitempty"` // the line of the first row with the same receiver
}

// String returns "column: problem", or what there is of it.
func (f RowFault) String() string {
	at := f.Path
	if f.Column != "" {
		at = "column " + f.Column
		if f.Path != "" {
			at += " (" + f.Path + ")"
		}
	}
	text := f.Problem
	if at != "" {
		text = at + ": " + text
	}
	if f.First > 0 {
		text += " (line " + strconv.Itoa(f.First) + ")"
	}
	return text
}

// FaultKind is the faults of one kind: they differ in numbers at most.
type FaultKind struct {
	Count   int      `json:"count"`
	Lines   []int    `json:"lines"`   // the first ones
	Example RowFault `json:"example"` // the first one
}

// firstLines is how many lines of a kind are listed.
const firstLines = 5

// Preview is the first message that will be sent.
type Preview struct {
	Line      int             `json:"line"`
	ID        string          `json:"id"`
	Body      json.RawMessage `json:"body"` // with the beginning of the receiver's openid only
	Priority  tasks.Priority  `json:"priority"`
	ProcessAt time.Time       `json:"process_at,omitzero"`
	NotAfter  time.Time       `json:"not_after,omitzero"`
}

// Checked is a plan whose rows are all checked.
type Checked struct {
	Plan  Plan
	Rows  int // that are not blank
	Valid int // that can be sent
	// Hidden counts the rows that the spreadsheet does not show. They are sent as well.
	Hidden int
	// Kinds are the faults by kind, the most frequent first.
	Kinds []*FaultKind
	// Digest identifies the cells that the template uses.
	Digest  string
	Preview *Preview // nil: no row can be sent
	// Priority and IgnoreHours are those of the preview, and NotAfter is the earliest one.
	Priority    tasks.Priority
	IgnoreHours bool
	NotAfter    time.Time
	// Warned counts the valid rows that do not fit their message template, where that is no fault, and
	// Warning is what is wrong with the first one. Cut counts those of which something is cut.
	Warned  int
	Warning string
	Cut     int

	checkedAt time.Time
	faults    []rowFaults // by line
}

// rowFaults are the faults of a line.
type rowFaults struct {
	line   int
	faults []*RowFault // shared by equal faults, without their lines
	first  int
}

// Faulty returns the number of rows that cannot be sent.
func (c *Checked) Faulty() int { return c.Rows - c.Valid }

// checker collects the results of a check.
type checker struct {
	*Checked
	seen     map[rowKey]int32 // the line of each receiver
	kinds    map[kindKey]*FaultKind
	interned map[RowFault]*RowFault
	sum      hash.Hash
}

type kindKey struct{ column, path, problem string }

// checkEvery is how many rows are checked between two looks at the context.
const checkEvery = 1000

// Check checks all rows of a complete plan at the time now. The error is that of the table, or of
// ctx. It needs memory for the receivers' hashes and for the faults, and reads the table once.
func Check(ctx context.Context, plan Plan, now time.Time) (*Checked, error) {
	c := &checker{
		Checked: &Checked{Plan: plan, checkedAt: now}, seen: make(map[rowKey]int32),
		kinds: make(map[kindKey]*FaultKind), interned: make(map[RowFault]*RowFault), sum: sha256.New(),
	}
	b := newBuilder(plan, now)
	for row, err := range plan.Table.Rows() {
		if err == nil && c.Rows%checkEvery == 0 {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		c.row(b, row)
	}
	for _, kind := range c.kinds {
		c.Kinds = append(c.Kinds, kind)
	}
	slices.SortFunc(c.Kinds, func(a, b *FaultKind) int {
		return cmp.Or(b.Count-a.Count, a.Lines[0]-b.Lines[0], strings.Compare(a.Example.String(), b.Example.String()))
	})
	c.Digest = hex.EncodeToString(c.sum.Sum(nil)[:8])
	return c.Checked, nil
}

// row checks a row.
func (c *checker) row(b *builder, row table.Row) {
	c.Rows++
	if row.Hidden {
		c.Hidden++
	}
	for _, column := range b.used {
		_, _ = c.sum.Write(strconv.AppendInt(nil, int64(len(row.Cells[column])), 10))
		_, _ = c.sum.Write([]byte(":" + row.Cells[column]))
	}
	m, faults := b.build(row)
	if len(faults) == 0 {
		if first, twice := c.seen[m.key]; twice {
			faults = []RowFault{duplicate(m, int(first))}
		}
	}
	if len(faults) > 0 {
		c.fault(row.Line, faults)
		return
	}
	c.seen[m.key] = int32(row.Line) //nolint:gosec // a file of 64 MB has fewer lines
	c.valid(m)
}

func duplicate(m message, first int) RowFault {
	f := RowFault{Line: m.line, Problem: "the same receiver as in an earlier row", First: first}
	if m.receiver == "" {
		f.Problem = "the same content as in an earlier row"
	}
	return f
}

func (c *checker) valid(m message) {
	e := m.envelope
	if m.warning != "" {
		if c.Warned++; c.Warned == 1 {
			c.Warning = m.warning
		}
	}
	if len(e.Fixed) > 0 {
		c.Cut++
	}
	if c.Valid++; c.Preview == nil {
		c.Preview = &Preview{
			Line: m.line, ID: e.ID, Body: json.RawMessage(mask(e.Body, m.receiver)),
			Priority: e.Priority, ProcessAt: e.ProcessAt, NotAfter: e.NotAfter,
		}
		c.Priority, c.IgnoreHours = e.Priority, e.IgnoreHours
	}
	if !e.NotAfter.IsZero() && (c.NotAfter.IsZero() || e.NotAfter.Before(c.NotAfter)) {
		c.NotAfter = e.NotAfter
	}
}

// digits matches the numbers in problems, which do not make a kind.
var digits = regexp.MustCompile(`\d+`)

// fault records the faults of a row.
func (c *checker) fault(line int, faults []RowFault) {
	r := rowFaults{line: line}
	for _, f := range faults {
		kind := kindKey{f.Column, f.Path, digits.ReplaceAllString(f.Problem, "0")}
		k := c.kinds[kind]
		if k == nil {
			k = &FaultKind{Example: f}
			c.kinds[kind] = k
		}
		if k.Count++; len(k.Lines) < firstLines {
			k.Lines = append(k.Lines, line)
		}
		r.first = max(r.first, f.First)
		f.Line, f.First = 0, 0
		shared := c.interned[f]
		if shared == nil {
			shared = &f
			c.interned[f] = shared
		}
		r.faults = append(r.faults, shared)
	}
	c.faults = append(c.faults, r)
}

// FaultsOf yields the faults of all rows, in the order of the table.
func (c *Checked) FaultsOf(yield func(RowFault) bool) {
	for _, r := range c.faults {
		for _, f := range r.faults {
			one := *f
			one.Line, one.First = r.line, r.first
			if !yield(one) {
				return
			}
		}
	}
}

// checkedRow is a row with its message or its faults.
type checkedRow struct {
	message
	faults []RowFault
}

// again yields the rows again, as they were when they were checked.
func (c *Checked) again(ctx context.Context) iter.Seq2[checkedRow, error] {
	return func(yield func(checkedRow, error) bool) {
		b, next, n := newBuilder(c.Plan, c.checkedAt), 0, 0
		for row, err := range c.Plan.Table.Rows() {
			if n++; err == nil && n%checkEvery == 0 {
				err = ctx.Err()
			}
			if err != nil {
				yield(checkedRow{}, err)
				return
			}
			m, faults := b.build(row)
			if next < len(c.faults) && c.faults[next].line == row.Line {
				if len(faults) == 0 { // a receiver that an earlier row has
					faults = []RowFault{duplicate(m, c.faults[next].first)}
				}
				next++
			}
			if !yield(checkedRow{m, faults}, nil) {
				return
			}
		}
	}
}
