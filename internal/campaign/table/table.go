// Package table reads the tables of people's spreadsheets: CSV and TSV in the encodings that Excel
// and WPS write, and .xlsx workbooks. It streams their rows and keeps none of them.
//
//	t, err := table.Open(file, size, "people.csv")
//	if err != nil {
//		return err
//	}
//	for row, err := range t.Rows() {
//		…
//	}
//
// The content of a file decides what it is, and not its name. A file that cannot be read without
// doubt is refused, and a cell that has lost digits in a spreadsheet is marked: see [Row.Problems].
package table

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// The limits of a table. A file that exceeds one is refused.
const (
	MaxSize    = 64 << 20  // of the file, in bytes
	MaxRows    = 1_000_000 // below the header
	MaxColumns = 500       // in the header
	maxName    = 100       // characters in the name of a column
)

// Format is the kind of file that a table was read from.
type Format string

// The formats.
const (
	CSV  Format = "CSV"
	TSV  Format = "TSV"
	XLSX Format = "xlsx"
)

// Table is a table with a header. It is safe for concurrent use if its reader is.
type Table struct {
	Name    string // of the file
	Format  Format
	Columns []string // the cells of the header, in their order
	Header  int      // the line of the header

	// Encoding is that of CSV and TSV: "UTF-8", "UTF-8 with BOM", "UTF-16LE", "UTF-16BE" or
	// "GB18030"; the last one includes GBK and GB2312.
	Encoding string

	// Sheet is the name of the sheet that is read, the first visible one, and Sheets the number of
	// visible sheets of the workbook.
	Sheet  string
	Sheets int

	// Mismatch is the extension of the file if it belongs to another format, such as ".xlsx".
	Mismatch string

	rows func(yield func(Row, error) bool) // all rows that are not blank, the header included
}

// Row is a row below the header.
type Row struct {
	// Line is the line of the file where the row begins, or the number of the row in the sheet.
	Line int
	// Cells are the texts of the cells, without white space at their ends. There are as many as
	// columns. The slice is used again for the next row.
	Cells []string
	// Problems are the cells whose text is not what a person wrote, by their index: such as a
	// number that lost digits, or the error of a formula. nil: none.
	Problems map[int]string
	// Extra is the name, such as "F", of a column that has a cell but no header; "": there is none.
	Extra string
	// Hidden: the spreadsheet does not show the row, such as one that a filter leaves out.
	Hidden bool
}

// Error is the error of a table that cannot be read. It contains no text of a cell below the header.
type Error struct {
	Line    int // 0: it concerns the whole file
	Problem string
}

// Error returns the problem, with its line.
func (e *Error) Error() string {
	if e.Line > 0 {
		return fmt.Sprintf("line %d: %s", e.Line, e.Problem)
	}
	return e.Problem
}

func errorAt(line int, format string, args ...any) error {
	return &Error{Line: line, Problem: fmt.Sprintf(format, args...)}
}

func errorf(format string, args ...any) error { return errorAt(0, format, args...) }

// Open finds out what a file of size bytes is, and reads its header. name is the name of the file.
// The table reads from r until its last use. An error that is not one of r's is an *[Error].
func Open(r io.ReaderAt, size int64, name string) (*Table, error) {
	if size > MaxSize {
		return nil, errorf("the file has %d bytes; at most %d are allowed: split the table", size, MaxSize)
	}
	head := make([]byte, 512)
	n, err := r.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	t := &Table{Name: name}
	if err := t.open(r, size, head[:n]); err != nil {
		return nil, err
	}
	t.Mismatch = mismatch(name, t.Format)
	return t, t.readHeader()
}

func (t *Table) open(r io.ReaderAt, size int64, head []byte) error {
	if len(strings.TrimSpace(string(head))) == 0 && size <= int64(len(head)) {
		return errorf("the file is empty")
	}
	if what := foreign(head); what != "" {
		return errorf("%s; save it as .xlsx, or as CSV UTF-8", what)
	}
	if strings.HasPrefix(string(head), "PK\x03\x04") || strings.HasPrefix(string(head), "PK\x05\x06") {
		return t.openXLSX(r, size)
	}
	return t.openText(r, size, head)
}

// signatures are the first bytes of files that people take for tables.
var signatures = [...]struct{ prefix, what string }{
	{"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "this is an old .xls workbook, or one with a password"},
	{"%PDF", "this is a PDF"},
	{"\x89PNG", "this is an image"},
	{"\xff\xd8\xff", "this is an image"},
	{"GIF8", "this is an image"},
	{"Rar!", "this is an archive"},
	{"7z\xbc\xaf", "this is an archive"},
	{"\x1f\x8b", "this is an archive"},
	{"{\\rtf", "this is a document"},
	{"{\"", "this is JSON: enqueue JSON Lines with wxcourier enqueue"},
}

// foreign says what a file is that is no table; "": it may be one.
func foreign(head []byte) string {
	text := strings.TrimPrefix(string(head), "\ufeff")
	for _, s := range signatures {
		if strings.HasPrefix(text, s.prefix) {
			return s.what
		}
	}
	if strings.HasPrefix(strings.TrimSpace(text), "<") {
		return "this is an HTML or XML page, though spreadsheets open it; open it in one"
	}
	return ""
}

// mismatch returns the extension of a name if it says that the file has another format.
func mismatch(name string, format Format) string {
	extension := strings.ToLower(filepath.Ext(name))
	formats := map[string][]Format{
		".csv": {CSV, TSV}, ".tsv": {TSV}, ".txt": {CSV, TSV}, ".xlsx": {XLSX}, ".xlsm": {XLSX}, ".xls": {}, ".et": {},
	}
	for _, f := range formats[extension] {
		if f == format {
			return ""
		}
	}
	if _, known := formats[extension]; !known {
		return ""
	}
	return extension
}

// readHeader reads and checks the first row that is not blank.
func (t *Table) readHeader() error {
	for row, err := range t.rows {
		if err != nil {
			return err
		}
		t.Header = row.Line
		return t.setColumns(row)
	}
	return errorf("the table is empty")
}

func (t *Table) setColumns(row Row) error {
	if len(row.Cells) > MaxColumns {
		return errorAt(row.Line, "the header has %d columns; at most %d are allowed", len(row.Cells), MaxColumns)
	}
	first := make(map[string]int)
	for i, name := range row.Cells {
		earlier, twice := first[name]
		switch {
		case name == "":
			return errorAt(row.Line, "the header of column %s is empty: name the column, or delete it", columnName(i))
		case twice:
			return errorAt(row.Line, "columns %s and %s have the same name %q: rename one of them", columnName(earlier), columnName(i), shorten(name))
		case utf8.RuneCountInString(name) > maxName:
			return errorAt(row.Line, "the header of column %s has more than %d characters: is the first row the header?", columnName(i), maxName)
		}
		first[name] = i
		t.Columns = append(t.Columns, strings.Clone(name))
	}
	return nil
}

// shorten limits a name for a message.
func shorten(name string) string {
	if r := []rune(name); len(r) > 32 {
		return string(r[:32]) + "…"
	}
	return name
}

// Rows yields the rows below the header, without those that are blank. It may be called several
// times. The iteration ends after an error.
func (t *Table) Rows() iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		n, header := 0, true
		for row, err := range t.rows {
			if header && err == nil {
				header = false
				continue
			}
			if n++; err == nil && n > MaxRows {
				err = errorf("more than %d rows: split the table", MaxRows)
			}
			if err != nil {
				yield(Row{}, err)
				return
			}
			t.fit(&row)
			if !yield(row, nil) {
				return
			}
		}
	}
}

// fit gives a row as many cells as there are columns.
func (t *Table) fit(row *Row) {
	for len(row.Cells) < len(t.Columns) {
		row.Cells = append(row.Cells, "")
	}
	if len(row.Cells) > len(t.Columns) { // the last cell of a row is not empty
		row.Extra = columnName(len(row.Cells) - 1)
		row.Cells = row.Cells[:len(t.Columns)]
	}
}

// columnName returns the name of a column in a spreadsheet, by its index: A, B … Z, AA …
func columnName(i int) string {
	name := ""
	for i++; i > 0; i = (i - 1) / 26 {
		name = string(rune('A'+(i-1)%26)) + name
	}
	return name
}
