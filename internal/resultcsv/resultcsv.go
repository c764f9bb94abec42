// Package resultcsv writes results as CSV: the format of `wxcourier results --csv` and of the
// operation GET /v1/results.
package resultcsv

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

// Column is a column of the CSV: the JSON name of a result's field, and the field's text.
type Column struct {
	Name  string
	Value func(tasks.Result) string
}

// Columns returns the columns in their order. They are all fields of a result but the state,
// which is always done, and those that only a task without an outcome has. New columns come last, since programs read the others by position.
func Columns() []Column {
	return []Column{
		{"finished_at", func(r tasks.Result) string { return stamp(r.FinishedAt) }},
		{"app", func(r tasks.Result) string { return r.App }},
		{"type", func(r tasks.Result) string { return r.Type }},
		{"id", func(r tasks.Result) string { return r.ID }},
		{"batch", func(r tasks.Result) string { return r.Batch }},
		{"outcome", func(r tasks.Result) string { return string(r.Outcome) }},
		{"errcode", func(r tasks.Result) string { return strconv.Itoa(r.ErrCode) }},
		{"errmsg", func(r tasks.Result) string { return r.ErrMsg }},
		{"rid", func(r tasks.Result) string { return r.RID }},
		{"attempts", func(r tasks.Result) string { return strconv.Itoa(r.Attempts) }},
		{"msgid", func(r tasks.Result) string { return r.MsgID }},
		{"openlink", func(r tasks.Result) string { return r.OpenLink }},
		{"url_link", func(r tasks.Result) string { return r.URLLink }},
		{"link", func(r tasks.Result) string { return r.Link }},
		{"image", func(r tasks.Result) string { return r.Image }},
		{"suggest", func(r tasks.Result) string { return r.Suggest }},
		{"label", func(r tasks.Result) string { return r.Label }},
		{"trace_id", func(r tasks.Result) string { return r.TraceID }},
		{"reason", func(r tasks.Result) string { return r.Reason }},
		{"enqueued_at", func(r tasks.Result) string { return stamp(r.EnqueuedAt) }},
		{"generation", func(r tasks.Result) string { return strconv.Itoa(r.Generation) }},
		{"supersedes", func(r tasks.Result) string { return string(r.Supersedes) }},
		{"receipt", func(r tasks.Result) string { return string(r.Receipt) }},
		{"receipt_status", func(r tasks.Result) string { return r.ReceiptStatus }},
		{"receipt_at", func(r tasks.Result) string { return stamp(r.ReceiptAt) }},
		{"fixed", func(r tasks.Result) string { return strings.Join(r.Fixed, "; ") }},
	}
}

// Writer writes a header and one row per result.
type Writer struct {
	w       *csv.Writer
	columns []Column
	begun   bool // the header is written
}

// NewWriter returns a Writer to w. It buffers until Flush.
func NewWriter(w io.Writer) *Writer { return &Writer{w: csv.NewWriter(w), columns: Columns()} }

// Write writes the row of a result, a tasks.Result.
func (s *Writer) Write(v any) error {
	r, _ := v.(tasks.Result)
	if err := s.header(); err != nil {
		return err
	}
	row := make([]string, 0, len(s.columns))
	for _, column := range s.columns {
		row = append(row, printable.Escape(column.Value(r)))
	}
	return s.w.Write(row)
}

func (s *Writer) header() error {
	if s.begun {
		return nil
	}
	s.begun = true
	var names []string
	for _, column := range s.columns {
		names = append(names, column.Name)
	}
	return s.w.Write(names)
}

// Flush writes the header, if no row did, and the rows so far.
func (s *Writer) Flush() error {
	if err := s.header(); err != nil {
		return err
	}
	s.w.Flush()
	return s.w.Error()
}

// stamp returns a time in the local zone, and "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}
