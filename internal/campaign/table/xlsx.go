package table

import (
	"archive/zip"
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
	maxRatio     = 200       // of an entry's size to its compressed size
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
	*tokenizer
	entry io.ReadCloser
	size  int64 // compressed
	read  int64
}

// newPart opens an entry.
func newPart(f *zip.File) (*part, error) {
	entry, err := f.Open()
	if err != nil {
		return nil, damaged(err)
	}
	p := &part{entry: entry, size: int64(min(f.CompressedSize64, MaxSize))}
	p.tokenizer = newTokenizer(p)
	return p, nil
}

// Read implements io.Reader.
func (p *part) Read(b []byte) (int, error) {
	n, err := p.entry.Read(b)
	p.read += int64(n)
	if p.read > maxPart || p.read > ratioFrom && p.read > maxRatio*p.size {
		return 0, errBomb
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = damaged(err)
	}
	return n, err
}

func (p *part) close() { _ = p.entry.Close() }

func damaged(err error) error { return errorf("the workbook is damaged: %v", err) }

// elements calls do for each start tag of an entry.
func (b *workbook) elements(f *zip.File, do func(name string, t token) error) error {
	p, err := newPart(f)
	if err != nil {
		return err
	}
	defer p.close()
	for {
		t, err := p.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if t.kind == startTag {
			if err := do(string(t.name), t); err != nil {
				return err
			}
		}
	}
}

// open finds the first visible sheet, and reads what the cells refer to.
func (b *workbook) open(t *Table) error {
	var id string
	err := b.elements(b.parts["xl/workbook.xml"], func(name string, e token) error {
		switch name {
		case "workbookPr":
			b.date04 = isTrue(e.attribute("date1904"))
		case "sheet":
			if state := e.attribute("state"); state != "" && state != "visible" {
				return nil
			}
			if t.Sheets++; t.Sheets == 1 {
				t.Sheet, id = shorten(e.attribute("name")), e.attribute(":id")
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

// relations finds the sheet with an id, the shared strings and the styles.
func (b *workbook) relations(sheet string) error {
	relations := b.parts["xl/_rels/workbook.xml.rels"]
	if relations == nil {
		return errorf("the workbook is damaged: it does not name its sheets")
	}
	var shared, styles *zip.File
	err := b.elements(relations, func(_ string, e token) error {
		target := e.attribute("Target")
		if target = strings.ToLower(target); strings.HasPrefix(target, "/") {
			target = target[1:]
		} else {
			target = path.Join("xl", target)
		}
		switch kind := e.attribute("Type"); {
		case e.attribute("Id") == sheet && sheet != "":
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
