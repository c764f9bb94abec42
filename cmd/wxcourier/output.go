package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

// notef prints a line to standard error.
func (p *program) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, format+"\n", args...)
}

// printJSON prints a value as one line of JSON.
func (p *program) printJSON(v any) error {
	out := printable.NewJSONLines(p.stdout)
	return errors.Join(out.Write(v), out.Flush())
}

// A sink writes results in one output format.
type sink interface {
	Write(v any) error
	Flush() error
}

// csvColumn is a column of the CSV: the JSON name of a result's field, and the field's text.
type csvColumn struct {
	name  string
	value func(tasks.Result) string
}

// csvColumns returns the columns in their order. They are all fields of a result but the state,
// which is always done, and those that only a task without an outcome has. New columns come last, since programs read the others by position.
func csvColumns() []csvColumn {
	return []csvColumn{
		{"finished_at", func(r tasks.Result) string { return stamp(r.FinishedAt, time.RFC3339) }},
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
		{"enqueued_at", func(r tasks.Result) string { return stamp(r.EnqueuedAt, time.RFC3339) }},
		{"generation", func(r tasks.Result) string { return strconv.Itoa(r.Generation) }},
		{"supersedes", func(r tasks.Result) string { return string(r.Supersedes) }},
	}
}

// csvSink writes a header and one row per result.
type csvSink struct {
	w       *csv.Writer
	columns []csvColumn
	begun   bool
}

// Write writes the row of a result.
func (s *csvSink) Write(v any) error {
	r, _ := v.(tasks.Result)
	if err := s.header(); err != nil {
		return err
	}
	row := make([]string, 0, len(s.columns))
	for _, column := range s.columns {
		row = append(row, printable.Escape(column.value(r)))
	}
	return s.w.Write(row)
}

func (s *csvSink) header() error {
	if s.begun {
		return nil
	}
	s.begun = true
	var names []string
	for _, column := range s.columns {
		names = append(names, column.name)
	}
	return s.w.Write(names)
}

// Flush writes the header, if no row did, and the rows so far.
func (s *csvSink) Flush() error {
	if err := s.header(); err != nil {
		return err
	}
	s.w.Flush()
	return s.w.Error()
}

// tableSink writes columns of fixed widths, so that it need not know all results first.
type tableSink struct {
	w     *bufio.Writer
	begun bool
}

const tableRow = "%-19s  %-18s  %-17s  %-8s  %7s  %-24s  %s"

// Write writes the row of a result.
func (s *tableSink) Write(v any) error {
	r, _ := v.(tasks.Result)
	if !s.begun {
		s.begun = true
		if err := s.line("FINISHED", "APP", "TYPE", "OUTCOME", "ERRCODE", "ID", "DETAIL"); err != nil {
			return err
		}
	}
	return s.line(stamp(r.FinishedAt, time.DateTime), r.App, r.Type, string(r.Outcome), strconv.Itoa(r.ErrCode), r.ID, detail(r))
}

func (s *tableSink) line(cells ...any) error {
	_, err := fmt.Fprintln(s.w, printable.Escape(strings.TrimRight(fmt.Sprintf(tableRow, cells...), " ")))
	return err
}

// Flush writes the rows so far.
func (s *tableSink) Flush() error { return s.w.Flush() }

// detail returns the most important fields of a result.
func detail(r tasks.Result) string {
	generation := ""
	if r.Generation > 0 {
		generation = fmt.Sprintf("(generation %d)", r.Generation)
	}
	if r.Outcome != tasks.OutcomeAccepted {
		return strings.Join(filled(r.Reason, r.ErrMsg, r.RID, generation), " ")
	}
	return strings.Join(filled(r.OpenLink, r.URLLink, r.Link, r.Suggest, r.Label, r.MsgID, r.Image, generation), " ")
}

func filled(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func stamp(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(layout)
}
