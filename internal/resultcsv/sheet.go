package resultcsv

import (
	"encoding/csv"
	"io"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

// Sheet writes results as CSV for spreadsheets, which programs should not read: it begins with a byte
// order mark, without which Excel takes it for GBK or Latin-1; times are those of China, in a form
// that Excel takes for times; and cells are as [SheetCell] makes them. Its columns are those of
// [Columns] and, last, `state`, since its tasks may not have ended.
type Sheet struct {
	w       io.Writer
	rows    *csv.Writer
	columns []Column
	begun   bool // the header is written
}

// byteOrderMark is U+FEFF in UTF-8.
const byteOrderMark = "\uFEFF"

// NewSheet returns a Sheet to w. It buffers until Flush.
func NewSheet(w io.Writer) *Sheet {
	columns := append(Columns(), Column{"state", func(r tasks.Result) string { return string(r.State) }})
	for i := range columns {
		switch columns[i].Name {
		case "finished_at":
			columns[i].Value = func(r tasks.Result) string { return sheetTime(r.FinishedAt) }
		case "enqueued_at":
			columns[i].Value = func(r tasks.Result) string { return sheetTime(r.EnqueuedAt) }
		case "errcode":
			columns[i].Value = unlessOpen(columns[i].Value)
		}
	}
	rows := csv.NewWriter(w)
	rows.UseCRLF = true
	return &Sheet{w: w, rows: rows, columns: columns}
}

// unlessOpen returns the value of ended tasks alone: an open task has no errcode, and 0 means success.
func unlessOpen(value func(tasks.Result) string) func(tasks.Result) string {
	return func(r tasks.Result) string {
		if r.Outcome == "" {
			return ""
		}
		return value(r)
	}
}

// Write writes the row of a task.
func (s *Sheet) Write(r tasks.Result) error {
	if err := s.header(); err != nil {
		return err
	}
	row := make([]string, len(s.columns))
	for i, column := range s.columns {
		row[i] = SheetCell(column.Value(r))
	}
	return s.rows.Write(row)
}

func (s *Sheet) header() error {
	if s.begun {
		return nil
	}
	s.begun = true
	names := make([]string, len(s.columns))
	for i, column := range s.columns {
		names[i] = column.Name
	}
	if _, err := io.WriteString(s.w, byteOrderMark); err != nil {
		return err
	}
	return s.rows.Write(names)
}

// Flush writes the header, if no row did, and the rows so far.
func (s *Sheet) Flush() error {
	if err := s.header(); err != nil {
		return err
	}
	s.rows.Flush()
	return s.rows.Error()
}

// sheetTime returns a time as Excel reads it, and "" for the zero time.
func sheetTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(calendar.Shanghai()).Format(time.DateTime)
}

// formulaStarts are the characters that begin a formula in a spreadsheet; the wide ones do in the
// Chinese Excel.
const formulaStarts = "=+-@＝＋－＠\t\r"

// SheetCell returns a text as a cell that a spreadsheet shows as it is. A text that would be a formula
// gets an apostrophe before it. One that would become another number, such as 3395159288267931652,
// 007 or 4E5, gets a tab. Characters that do not print are escaped.
func SheetCell(text string) string {
	text = printable.Escape(text)
	switch {
	case text == "" || plainNumber(text):
		return text
	case numberLike(text):
		return "\t" + text
	case strings.ContainsAny(firstOf(text), formulaStarts):
		return "'" + text
	}
	return text
}

// firstOf returns the first character that is not a blank.
func firstOf(text string) string {
	for _, r := range strings.TrimLeft(text, " ") {
		return string(r)
	}
	return ""
}

// maxDigits is the number of digits up to which Excel shows a number as it was written.
const maxDigits = 11

// plainNumber reports whether a spreadsheet shows a text as the number that it is.
func plainNumber(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return digits != "" && len(digits) <= maxDigits && strings.Trim(digits, "0123456789") == "" && (digits == "0" || digits[0] != '0')
}

// numberLike reports whether a spreadsheet takes a text for a number, and it is not a plain one.
func numberLike(text string) bool {
	return text[0] >= '0' && text[0] <= '9' && strings.Trim(text, "0123456789.eE+-") == ""
}
