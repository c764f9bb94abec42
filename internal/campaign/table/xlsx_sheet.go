package table

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
)

// sheetReader reads the rows of a sheet:
//
//	<sheetData><row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" s="3"><v>46357</v></c></row>…
type sheetReader struct {
	book *workbook
	row  Row
	last int // the line of the last row

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
		token, err := p.next()
		if errors.Is(err, io.EOF) {
			err = errorf("the workbook is damaged: its sheet is cut off")
		}
		if err != nil {
			yield(Row{}, err)
			return
		}
		switch token := token.(type) {
		case xml.StartElement:
			err = s.start(token)
		case xml.CharData:
			if s.inV {
				s.value = append(s.value, token...)
			}
			s.value = s.inline.add(s.value, token)
		case xml.EndElement:
			switch token.Name.Local {
			case "sheetData":
				return
			case "row":
				if s.row.finish() && !yield(s.row, nil) {
					return
				}
			default:
				s.end(token)
			}
		}
		if err != nil {
			yield(Row{}, err)
			return
		}
	}
}

func (s *sheetReader) start(e xml.StartElement) error {
	switch e.Name.Local {
	case "row":
		s.last++
		if n, err := strconv.Atoi(attribute(e, "r")); err == nil && n >= s.last {
			s.last = n
		}
		s.row = Row{Line: s.last, Cells: s.row.Cells[:0], Hidden: isTrue(attribute(e, "hidden"))}
		s.at = -1
	case "c":
		s.at++
		if at, ok := columnIndex(attribute(e, "r")); ok {
			s.at = at
		}
		if s.at >= 16_384 { // Excel's own limit
			return errBomb
		}
		s.kind, s.value = attribute(e, "t"), s.value[:0]
		s.style, _ = strconv.Atoi(attribute(e, "s"))
		s.inline = stringText{}
	case "v":
		s.inV = true
	default:
		s.value = s.inline.add(s.value, e)
	}
	return nil
}

func (s *sheetReader) end(e xml.EndElement) {
	switch e.Name.Local {
	case "v":
		s.inV = false
	case "c":
		s.inV = false
		s.cell()
	default:
		s.value = s.inline.add(s.value, e)
	}
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
