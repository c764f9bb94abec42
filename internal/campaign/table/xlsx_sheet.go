package table

import (
	"errors"
	"io"
	"strconv"
)

// sheetReader reads the rows of a sheet:
//
//	<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" s="3"><v>46357</v></c></row>…
type sheetReader struct {
	book  *workbook
	row   Row
	inRow bool
	last  int // the line of the last row

	inCell bool
	at     int    // the index of the column of the cell
	kind   string // its type: "" and n number, s shared, inlineStr, str and d text, b truth, e error
	style  int
	value  []byte
	inV    bool
	inline stringText
}

// rows yields the rows of the sheet that are not blank.
func (b *workbook) rows(yield func(Row, error) bool) {
	p, err := newPart(b.sheet)
	if err != nil {
		yield(Row{}, err)
		return
	}
	defer p.close()
	s := &sheetReader{book: b}
	for {
		t, err := p.next()
		if errors.Is(err, io.EOF) {
			err = errorf("the workbook is damaged: its sheet is cut off")
		}
		if err == nil && t.kind == startTag {
			err = s.start(t)
		}
		if err != nil {
			yield(Row{}, err)
			return
		}
		if t.kind != endTag {
			if s.add(t); len(s.value) > maxToken {
				yield(Row{}, errBomb)
				return
			}
			continue
		}
		switch string(t.name) {
		case "sheetData":
			return
		case "row":
			if s.inRow && s.row.finish() && !yield(s.row, nil) {
				return
			}
			s.inRow, s.inCell = false, false
		case "c":
			if s.inRow && s.inCell {
				s.cell()
			}
			s.inV, s.inCell = false, false
		case "v":
			s.inV = false
		default:
			s.add(t)
		}
	}
}

// add adds what a token adds to the value of the cell.
func (s *sheetReader) add(t token) {
	if t.kind == charData && s.inV {
		s.value = append(s.value, t.text...)
	}
	s.value = s.inline.add(s.value, t)
}

// start begins a row or a cell.
func (s *sheetReader) start(e token) error {
	switch string(e.name) {
	case "row":
		s.last++
		if n, err := strconv.Atoi(e.attribute("r")); err == nil && n >= s.last {
			s.last = n
		}
		s.row = Row{Line: s.last, Cells: s.row.Cells[:0], Hidden: isTrue(e.attribute("hidden"))}
		s.inRow, s.inCell, s.inV, s.at = true, false, false, -1
	case "c":
		s.at++
		if at, ok := columnIndex(e.attribute("r")); ok {
			s.at = at
		}
		if s.at >= 16_384 { // Excel's own limit
			return errBomb
		}
		s.inCell, s.inV, s.kind, s.value = true, false, e.attribute("t"), s.value[:0]
		s.style, _ = strconv.Atoi(e.attribute("s"))
		s.inline = stringText{}
	case "v":
		s.inV = true
	}
	return nil
}

// columnIndex returns the index of the column in a reference such as AB12.
func columnIndex(reference string) (at int, ok bool) {
	for _, c := range []byte(reference) {
		if c < 'A' || c > 'Z' || at > 1<<20 {
			break
		}
		at = at*26 + int(c-'A') + 1
	}
	return at - 1, at > 0
}

// cell adds the cell that was read to its row.
func (s *sheetReader) cell() {
	if len(s.value) == 0 {
		return
	}
	text, fault := s.text()
	if s.at >= len(s.row.Cells) {
		for len(s.row.Cells) <= s.at {
			s.row.Cells = append(s.row.Cells, "")
		}
	}
	s.row.Cells[s.at] = text
	if fault != "" {
		s.row.mark(s.at, fault)
	}
}

// text returns the text of the cell, or why there is none.
func (s *sheetReader) text() (text, fault string) {
	value := string(s.value)
	switch s.kind {
	case "s":
		i, err := strconv.Atoi(value)
		text, ok := s.book.shared.at(i)
		if err != nil || !ok {
			return "", "the workbook is damaged: this cell has no text"
		}
		return text, ""
	case "b":
		if value == "0" {
			return "FALSE", ""
		}
		return "TRUE", ""
	case "e":
		return "", formulaError
	case "", "n":
		if s.style > 0 && s.style < len(s.book.dates) && s.book.dates[s.style] != 0 {
			return s.book.date(value, s.book.dates[s.style])
		}
		return number(value)
	}
	return value, "" // inlineStr, str, d
}
