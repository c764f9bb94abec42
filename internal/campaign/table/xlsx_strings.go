package table

import (
	"archive/zip"
	"errors"
	"io"
)

// sharedStrings are the texts that the cells of a workbook refer to by their index.
type sharedStrings struct {
	text []byte
	ends []uint32
}

// at returns a text by its index.
func (s *sharedStrings) at(i int) (string, bool) {
	if i < 0 || i >= len(s.ends) {
		return "", false
	}
	start := uint32(0)
	if i > 0 {
		start = s.ends[i-1]
	}
	return string(s.text[start:s.ends[i]]), true
}

// read reads the entry of the shared strings: <sst><si><t>…</t></si>…, where a text in several
// fonts has several <t>, and <rPh> is how it is pronounced.
func (s *sharedStrings) read(f *zip.File) error {
	p, err := newPart(f)
	if err != nil {
		return err
	}
	defer p.close()
	var text stringText
	for {
		t, err := p.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.text = text.add(s.text, t)
		if len(s.text) > maxShared {
			return errBomb
		}
		if t.kind == endTag && string(t.name) == "si" {
			s.ends = append(s.ends, uint32(len(s.text))) //nolint:gosec // at most maxShared
		}
	}
}

// stringText follows the tags of a text.
type stringText struct{ inText, inPhonetic bool }

// add appends what a token adds to the text.
func (s *stringText) add(text []byte, t token) []byte {
	if t.kind == charData {
		if s.inText && !s.inPhonetic {
			return append(text, t.text...)
		}
		return text
	}
	switch string(t.name) {
	case "t":
		s.inText = t.kind == startTag
	case "rPh":
		s.inPhonetic = t.kind == startTag
	}
	return text
}
