package table

import (
	"archive/zip"
	"encoding/xml"
	"errors"
	"io"
	"path"
	"strings"
)

// The limits of a workbook. A real one is far below; a file that is made to exhaust the memory or
// the time of its reader exceeds one.
const (
	maxEntries   = 2000
	maxDirectory = 4 << 20   // bytes read to find the entries
	maxPart      = 256 << 20 // bytes of an uncompressed entry
	maxRatio     = 300       // of an entry's size to its compressed size
	ratioFrom    = 1 << 20   // bytes from which on maxRatio applies
	maxToken     = 4 << 20   // bytes of a tag or a text
	maxShared    = 64 << 20  // bytes of all shared strings
	maxStyles    = 70_000    // Excel's own limit is 65,490
)

// workbook is the content of an .xlsx file.
type workbook struct {
	parts  map[string]*zip.File
	sheet  *zip.File
	shared sharedStrings
	dates  []dateParts // by the index of the style
	date04 bool        // dates count from 1904
}

var errBomb = errorf("the workbook is far larger than it looks, as a file that is made to exhaust memory: save the table again in a spreadsheet, or as CSV UTF-8")

// openXLSX opens a zip archive, which must be a workbook.
func (t *Table) openXLSX(r io.ReaderAt, size int64) error {
	budget := &limitedReaderAt{r: r, left: maxDirectory}
	archive, err := zip.NewReader(budget, size)
	switch {
	case budget.left < 0:
		return errBomb
	case budget.err != nil:
		return budget.err
	case err != nil:
		return errorf("the file begins as an .xlsx workbook and is damaged: %v", err)
	case len(archive.File) > maxEntries:
		return errBomb
	}
	budget.left, budget.unlimited = 0, true
	book := &workbook{parts: make(map[string]*zip.File, len(archive.File))}
	for _, f := range archive.File {
		book.parts[strings.ToLower(strings.TrimPrefix(f.Name, "/"))] = f
	}
	if book.parts["xl/workbook.xml"] == nil {
		return notXLSX(book.parts)
	}
	t.Format = XLSX
	if err := book.open(t); err != nil {
		return err
	}
	t.rows = book.rows
	return nil
}

// notXLSX says what an archive is that is no .xlsx workbook.
func notXLSX(parts map[string]*zip.File) error {
	what := "an archive without a workbook"
	switch {
	case parts["xl/workbook.bin"] != nil:
		what = "an .xlsb workbook"
	case parts["content.xml"] != nil:
		what = "an OpenDocument file"
	case parts["word/document.xml"] != nil:
		what = "a Word document"
	case parts["index/document.iwa"] != nil:
		what = "a Numbers file"
	}
	return errorf("this is %s; save it as .xlsx, or as CSV UTF-8", what)
}

// limitedReaderAt limits how many bytes are read, until it is unlimited.
type limitedReaderAt struct {
	r         io.ReaderAt
	left      int64
	unlimited bool
	err       error // of r
}

func (l *limitedReaderAt) ReadAt(p []byte, at int64) (int, error) {
	if l.unlimited {
		return l.r.ReadAt(p, at)
	}
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, errBomb
	}
	n, err := l.r.ReadAt(p, at)
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	return n, err
}

// part reads the XML of an entry, and refuses one that grows beyond the limits.
type part struct {
	*xml.Decoder
	entry  io.ReadCloser
	size   int64 // compressed
	read   int64
	inside int64 // bytes read since the last token
}

// newPart opens an entry.
func newPart(f *zip.File) (*part, error) {
	entry, err := f.Open()
	if err != nil {
		return nil, damaged(err)
	}
	p := &part{entry: entry, size: int64(min(f.CompressedSize64, MaxSize))}
	p.Decoder = xml.NewDecoder(newByteReader(p))
	p.CharsetReader = func(charset string, _ io.Reader) (io.Reader, error) {
		return nil, errorf("the workbook is in %s, not UTF-8: save it again", shorten(charset))
	}
	return p, nil
}

// Read implements io.Reader.
func (p *part) Read(b []byte) (int, error) {
	n, err := p.entry.Read(b)
	p.read += int64(n)
	p.inside += int64(n)
	if p.read > maxPart || p.inside > maxToken || p.read > ratioFrom && p.read > maxRatio*p.size {
		return 0, errBomb
	}
	return n, err
}

// next returns the next token. Its bytes are valid until the next call.
func (p *part) next() (xml.Token, error) {
	p.inside = 0
	token, err := p.RawToken()
	var ours *Error
	if err != nil && !errors.Is(err, io.EOF) && !errors.As(err, &ours) {
		err = damaged(err)
	}
	return token, err
}

func (p *part) close() { _ = p.entry.Close() }

func damaged(err error) error { return errorf("the workbook is damaged: %v", err) }

// elements calls do for each start tag of an entry.
func (b *workbook) elements(f *zip.File, do func(xml.StartElement) error) error {
	p, err := newPart(f)
	if err != nil {
		return err
	}
	defer p.close()
	for {
		token, err := p.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if start, ok := token.(xml.StartElement); ok {
			if err := do(start); err != nil {
				return err
			}
		}
	}
}

// attribute returns the value of an attribute by its name without prefix, "" if there is none.
func attribute(e xml.StartElement, name string) string {
	for i := range e.Attr {
		if e.Attr[i].Name.Local == name {
			return e.Attr[i].Value
		}
	}
	return ""
}

// open finds the first visible sheet, and reads what the cells refer to.
func (b *workbook) open(t *Table) error {
	var id string
	err := b.elements(b.parts["xl/workbook.xml"], func(e xml.StartElement) error {
		switch e.Name.Local {
		case "workbookPr":
			b.date04 = isTrue(attribute(e, "date1904"))
		case "sheet":
			if state := attribute(e, "state"); state != "" && state != "visible" {
				return nil
			}
			if t.Sheets++; t.Sheets == 1 {
				t.Sheet, id = shorten(attribute(e, "name")), relationID(e)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if t.Sheets == 0 {
		return errorf("the workbook has no visible sheet")
	}
	if err := b.relations(id); err != nil {
		return err
	}
	if b.sheet == nil {
		return errorf("the workbook is damaged: it does not have its first sheet")
	}
	return nil
}

func isTrue(text string) bool { return text == "1" || text == "true" }

// relationID returns the attribute r:id of a sheet, which also has an id of its own.
func relationID(e xml.StartElement) string {
	for _, a := range e.Attr {
		if a.Name.Local == "id" && a.Name.Space != "" {
			return a.Value
		}
	}
	return ""
}

// relations finds the sheet with an id, the shared strings and the styles.
func (b *workbook) relations(sheet string) error {
	relations := b.parts["xl/_rels/workbook.xml.rels"]
	if relations == nil {
		return errorf("the workbook is damaged: it does not name its sheets")
	}
	var shared, styles *zip.File
	err := b.elements(relations, func(e xml.StartElement) error {
		target := attribute(e, "Target")
		if target = strings.ToLower(target); strings.HasPrefix(target, "/") {
			target = target[1:]
		} else {
			target = path.Join("xl", target)
		}
		switch kind := attribute(e, "Type"); {
		case attribute(e, "Id") == sheet && sheet != "":
			b.sheet = b.parts[target]
		case strings.HasSuffix(kind, "/sharedStrings"):
			shared = b.parts[target]
		case strings.HasSuffix(kind, "/styles"):
			styles = b.parts[target]
		}
		return nil
	})
	if err == nil && styles != nil {
		err = b.readStyles(styles)
	}
	if err == nil && shared != nil {
		err = b.shared.read(shared)
	}
	return err
}
