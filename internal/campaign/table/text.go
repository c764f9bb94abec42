package table

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"errors"
	"io"
	"unicode/utf8"
)

// text is the content of a CSV or TSV file.
type text struct {
	r      io.ReaderAt
	size   int64
	start  int64      // the first byte after the BOM
	decode decodeRune // nil: UTF-8
	cr     bool       // lines end with CR alone, as of old programs for the Mac
	comma  rune
}

// reader returns a reader of the text in UTF-8, with LF or CRLF at the end of lines.
func (t *text) reader() io.Reader {
	var r io.Reader = io.NewSectionReader(t.r, t.start, t.size-t.start)
	if t.decode != nil {
		r = newDecodingReader(r, t.decode)
	}
	if t.cr {
		r = crReader{r}
	}
	return bufio.NewReaderSize(r, 64<<10)
}

// crReader replaces CR by LF.
type crReader struct{ r io.Reader }

func (c crReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	for i := range p[:n] {
		if p[i] == '\r' {
			p[i] = '\n'
		}
	}
	return n, err
}

// openText finds out the encoding and the delimiter of a text.
func (t *Table) openText(r io.ReaderAt, size int64, head []byte) error {
	content := &text{r: r, size: size}
	var err error
	if t.Encoding, err = content.detect(head); err != nil {
		return err
	}
	if content.comma, err = content.delimiter(); err != nil {
		return err
	}
	if t.Format = CSV; content.comma == '\t' {
		t.Format = TSV
	}
	t.rows = content.rows
	return nil
}

// detect sets how the text is decoded, and returns the name of its encoding.
func (t *text) detect(head []byte) (string, error) {
	name := "UTF-8"
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		name, t.start = "UTF-8 with BOM", 3
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		name, t.start, t.decode = "UTF-16LE", 2, decodeUTF16(binary.LittleEndian)
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		name, t.start, t.decode = "UTF-16BE", 2, decodeUTF16(binary.BigEndian)
	}
	valid, err := t.scan()
	if err != nil || valid {
		return name, err
	}
	if name != "UTF-8" {
		return "", errorf("the file begins as %s does, and has bytes that %s cannot have: save it again as CSV UTF-8", name, name)
	}
	t.decode = decodeGB18030
	if valid, err = t.scan(); err == nil && !valid {
		err = errorf("the file is neither UTF-8 nor GB18030 (GBK) nor UTF-16 with a BOM: save it as .xlsx, or as CSV UTF-8")
	}
	return "GB18030", err
}

// scan reports whether the whole text is valid in its encoding, and finds out how its lines end.
func (t *text) scan() (valid bool, err error) {
	r, buffer := t.reader(), make([]byte, 64<<10)
	kept := 0 // bytes of an incomplete character at the beginning of the buffer
	cr, lf := false, false
	for {
		n, err := r.Read(buffer[kept:])
		n += kept
		atEnd := errors.Is(err, io.EOF)
		if err != nil && !atEnd {
			return false, err
		}
		chunk := buffer[:n]
		if bytes.IndexByte(chunk, 0) >= 0 {
			return false, errorf("the file has bytes that no text has: it is no table, or UTF-16 without a BOM; save it as .xlsx, or as CSV UTF-8")
		}
		cr, lf = cr || bytes.IndexByte(chunk, '\r') >= 0, lf || bytes.IndexByte(chunk, '\n') >= 0
		complete := completeUntil(chunk)
		if atEnd {
			complete = n
		}
		if !utf8.Valid(chunk[:complete]) || t.decode != nil && bytes.Contains(chunk[:complete], []byte("\ufffd")) {
			return false, nil
		}
		if atEnd {
			t.cr = t.cr || cr && !lf
			return true, nil
		}
		kept = copy(buffer, chunk[complete:])
	}
}

// completeUntil returns the length of a text without an incomplete character at its end.
func completeUntil(text []byte) int {
	for back := 1; back <= min(utf8.UTFMax-1, len(text)); back++ {
		if at := len(text) - back; utf8.RuneStart(text[at]) {
			if !utf8.FullRune(text[at:]) {
				return at
			}
			break
		}
	}
	return len(text)
}

// delimiter returns the most frequent delimiter outside of quotes in the first line that has text.
func (t *text) delimiter() (rune, error) {
	r := bufio.NewReader(t.reader())
	counts, quoted, content := map[rune]int{}, false, false
	const most = 64 << 10 // a header is shorter
	for range most {
		c, _, err := r.ReadRune()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		if c == '"' {
			quoted = !quoted
		}
		if c == '\n' && !quoted {
			if content {
				break
			}
			clear(counts)
			continue
		}
		if (c == ',' || c == ';' || c == '\t') && !quoted {
			counts[c]++
		} else if c != '\r' && c != ' ' {
			content = true
		}
	}
	best := ','
	for _, c := range []rune{'\t', ';'} {
		if counts[c] > counts[best] {
			best = c
		}
	}
	return best, nil
}

// rows yields all rows that are not blank.
func (t *text) rows(yield func(Row, error) bool) {
	guard := &recordGuard{r: t.reader()}
	r := csv.NewReader(bufio.NewReaderSize(guard, 16<<10))
	r.Comma, r.FieldsPerRecord, r.ReuseRecord = t.comma, -1, true
	for {
		guard.read = 0
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			yield(Row{}, csvError(err))
			return
		}
		line, _ := r.FieldPos(0)
		row := Row{Line: line, Cells: cells}
		if row.finish() && !yield(row, nil) {
			return
		}
	}
}

// maxRecord is the size of a row in bytes from which on it is refused: each of its cells costs some
// fifty bytes of memory, even an empty one.
const maxRecord = 1 << 20

// recordGuard limits the size of a row.
type recordGuard struct {
	r    io.Reader
	read int // bytes since the last row
}

func (g *recordGuard) Read(p []byte) (int, error) {
	if g.read > maxRecord {
		return 0, errorf("a row has more than 1 MB: is a \" missing at the end of a cell?")
	}
	n, err := g.r.Read(p)
	g.read += n
	return n, err
}

// csvError says what is wrong with the quotes of a line.
func csvError(err error) error {
	var parse *csv.ParseError
	if !errors.As(err, &parse) {
		return err
	}
	if errors.Is(parse.Err, csv.ErrBareQuote) {
		return errorAt(parse.Line, `a cell has a " and is not in quotes: write it as "…""…"`)
	}
	return errorAt(parse.StartLine, `a cell begins with a " and does not end with one: write a " inside of a cell as ""`)
}
