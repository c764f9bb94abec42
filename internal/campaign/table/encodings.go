package table

import (
	"bytes"
	"compress/flate"
	_ "embed" // gbk.deflate
	"encoding/binary"
	"io"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// A decodeRune decodes the first character of src, which is not empty. It returns the number of
// bytes, or 0 if src ends within the character, and utf8.RuneError for bytes that are none.
type decodeRune func(src []byte) (r rune, size int)

// decodingReader is a reader of another encoding in UTF-8.
type decodingReader struct {
	r      io.Reader
	decode decodeRune
	src    []byte // read and not decoded
	out    []byte // decoded and not returned
	err    error  // of r
}

func newDecodingReader(r io.Reader, decode decodeRune) *decodingReader {
	return &decodingReader{r: r, decode: decode, src: make([]byte, 0, 16<<10)}
}

// Read implements io.Reader.
func (d *decodingReader) Read(p []byte) (int, error) {
	for len(d.out) == 0 {
		if d.err != nil && len(d.src) == 0 {
			return 0, d.err
		}
		d.fill()
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}

// fill reads, and decodes what is complete.
func (d *decodingReader) fill() {
	if d.err == nil {
		var n int
		n, d.err = d.r.Read(d.src[len(d.src):cap(d.src)])
		d.src = d.src[:len(d.src)+n]
	}
	d.out = d.out[:0:cap(d.out)]
	rest := d.src
	for len(rest) > 0 {
		r, size := d.decode(rest)
		if size == 0 {
			if d.err == nil {
				break // the next read completes it
			}
			r, size = utf8.RuneError, len(rest)
		}
		d.out, rest = utf8.AppendRune(d.out, r), rest[size:]
	}
	d.src = d.src[:copy(d.src[:cap(d.src)], rest)]
}

// decodeUTF16 returns the decoder of UTF-16 in a byte order.
func decodeUTF16(order binary.ByteOrder) decodeRune {
	return func(src []byte) (rune, int) {
		if len(src) < 2 {
			return 0, 0
		}
		r := rune(order.Uint16(src))
		if !utf16.IsSurrogate(r) {
			return r, 2
		}
		if len(src) < 4 {
			return 0, 0
		}
		if pair := utf16.DecodeRune(r, rune(order.Uint16(src[2:]))); pair != utf8.RuneError {
			return pair, 4
		}
		return utf8.RuneError, 2
	}
}

// gbkDeflate is written by testdata/gbk.py.
//
//go:embed gbk.deflate
var gbkDeflate []byte

const (
	gbkTrails = 190                  // trail bytes of a lead byte
	gbkCodes  = 126 * gbkTrails      // two-byte codes
	supraBMP  = 150 * 126 * 10       // the first four-byte code beyond U+FFFF, 90 30 81 30
	lastBMP   = 39_420               // four-byte codes up to U+FFFF
	lastFour  = supraBMP + 1<<20 - 1 // the last four-byte code
)

// gb18030Table is the code points of GB18030's codes of two bytes, and of four bytes up to U+FFFF.
type gb18030Table struct {
	two  [gbkCodes]uint16
	four [lastBMP]uint16
}

// gb18030 makes the table, once: it takes a millisecond.
var gb18030 = sync.OnceValue(func() *gb18030Table {
	content, err := io.ReadAll(flate.NewReader(bytes.NewReader(gbkDeflate)))
	if err != nil || len(content) != 2*gbkCodes {
		panic("table: gbk.deflate is damaged") // as every test of this package would find
	}
	t := &gb18030Table{}
	taken := make([]bool, 1<<16)
	point := uint16(0)
	for i := range t.two {
		point += uint16(content[i]) | uint16(content[gbkCodes+i])<<8
		t.two[i], taken[point] = point, true
	}
	// The codes of four bytes are the other code points in their order.
	next := 0
	for point := 0x80; point < 1<<16 && next < lastBMP; point++ {
		if !taken[point] && !utf16.IsSurrogate(rune(point)) {
			t.four[next] = uint16(point)
			next++
		}
	}
	return t
})

// decodeGB18030 is the decoder of GB18030, of which GBK and GB2312 are parts. 0x80 is the euro sign,
// as Windows writes it.
func decodeGB18030(src []byte) (rune, int) {
	lead := src[0]
	switch {
	case lead < utf8.RuneSelf:
		return rune(lead), 1
	case lead == 0x80:
		return '€', 1
	case lead == 0xff:
		return utf8.RuneError, 1
	case len(src) < 2:
		return 0, 0
	}
	trail := src[1]
	switch {
	case trail >= '0' && trail <= '9':
		return decodeFour(src)
	case trail < 0x40 || trail == 0x7f || trail == 0xff:
		return utf8.RuneError, 1
	case trail > 0x7f:
		trail--
	}
	if r := gb18030().two[int(lead-0x81)*gbkTrails+int(trail-0x40)]; r != 0 {
		return rune(r), 2
	}
	return utf8.RuneError, 2
}

// decodeFour decodes a code of four bytes.
func decodeFour(src []byte) (rune, int) {
	if len(src) < 4 {
		return 0, 0
	}
	if src[2] < 0x81 || src[2] == 0xff || src[3] < '0' || src[3] > '9' {
		return utf8.RuneError, 1
	}
	code := ((int(src[0]-0x81)*10+int(src[1]-'0'))*126+int(src[2]-0x81))*10 + int(src[3]-'0')
	switch {
	case code < lastBMP:
		return rune(gb18030().four[code]), 4
	case code >= supraBMP && code <= lastFour:
		return rune(code - supraBMP + 1<<16), 4
	}
	return utf8.RuneError, 4
}
