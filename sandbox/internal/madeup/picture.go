package madeup

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"strconv"
	"sync"
)

// modules is the number of modules (dark and light squares) along each side of the code.
const modules = 25

// jpegQuality keeps a code of the usual width near 10 KB.
const jpegQuality = 30

// keptPictures bounds the cached images: a client may request any width.
const keptPictures = 64

// Picture describes the image of a code.
type Picture struct {
	Width       int    // in pixels
	Transparent bool   // without a background, which requires PNG
	Target      string // the page that the code opens; the comment of the image
}

// Pictures draws codes: one square pattern for each width and format, cached because drawing is the most expensive part of a
// call. The image's comment has the target of the code, so that a test can tell codes apart. The zero value is ready to
// use, by several goroutines.
type Pictures struct {
	mu    sync.Mutex
	drawn map[pictureFormat][]byte
}

// pictureFormat is the key of the image cache.
type pictureFormat struct {
	width       int
	transparent bool
}

// Draw returns a JPEG, or a PNG if the background is transparent.
func (p *Pictures) Draw(of Picture) []byte {
	form := pictureFormat{of.Width, of.Transparent}
	p.mu.Lock()
	defer p.mu.Unlock()
	plain, ok := p.drawn[form]
	if !ok {
		plain = form.draw()
		if p.drawn == nil {
			p.drawn = map[pictureFormat][]byte{}
		}
		if len(p.drawn) < keptPictures {
			p.drawn[form] = plain
		}
	}
	comment := strconv.QuoteToASCII(of.Target)
	if form.transparent {
		return withPNGComment(plain, comment)
	}
	return withJPEGComment(plain, comment)
}

// draw returns an image that looks like a QR code but does not encode anything.
func (l pictureFormat) draw() []byte {
	bounds := image.Rect(0, 0, l.width, l.width)
	var buf bytes.Buffer
	var err error
	if l.transparent {
		img := image.NewPaletted(bounds, color.Palette{color.Transparent, color.Black})
		l.paint(img.Pix, [2]uint8{0, 1})
		err = png.Encode(&buf, img)
	} else {
		img := image.NewGray(bounds)
		l.paint(img.Pix, [2]uint8{0xff, 0})
		err = jpeg.Encode(&buf, img, &jpeg.Options{Quality: jpegQuality})
	}
	if err != nil {
		panic(err) // writing to a buffer does not fail
	}
	return buf.Bytes()
}

// paint sets each pixel to the shade of its module: shades has light and dark.
func (l pictureFormat) paint(pixels []uint8, shades [2]uint8) {
	for y := range l.width {
		for x := range l.width {
			pixels[y*l.width+x] = shades[module(x*modules/l.width, y*modules/l.width)]
		}
	}
}

// module returns 1 for a dark module: three corner squares, and a fixed pattern elsewhere.
func module(x, y int) uint8 {
	corner := func(x, y int) (inside bool, dark uint8) {
		if x < 0 || y < 0 || x > 6 || y > 6 {
			return false, 0
		}
		ring := max(max(x, 6-x), max(y, 6-y)) // 6 on the border, 3 in the middle
		if ring == 5 {
			return true, 0
		}
		return true, 1
	}
	for _, at := range [3][2]int{{0, 0}, {modules - 7, 0}, {0, modules - 7}} {
		if inside, dark := corner(x-at[0], y-at[1]); inside {
			return dark
		}
	}
	return uint8(Scramble(uint64(x*modules+y)) & 1) //nolint:gosec // coordinates are small and not negative
}

// withPNGComment inserts a text chunk after the header of a PNG, which has a fixed length.
// Source: https://www.w3.org/TR/png-3/#11tEXt
func withPNGComment(plain []byte, text string) []byte {
	const header = 8 + 4 + 4 + 13 + 4
	chunk := append([]byte("tEXtComment\x00"), text...)
	out := make([]byte, 0, len(plain)+len(chunk)+8)
	out = append(out, plain[:header]...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(chunk)-4)) //nolint:gosec // bounded by the size of a request
	out = append(out, chunk...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
	return append(out, plain[header:]...)
}

// withJPEGComment inserts a comment segment after the first marker of a JPEG. The segment's length has two bytes; longer texts
// are truncated.
// Source: https://www.w3.org/Graphics/JPEG/itu-t81.pdf, B.2.4.5
func withJPEGComment(plain []byte, text string) []byte {
	const header, maxText = 2, 1<<16 - 1 - 2
	text = text[:min(len(text), maxText)]
	out := make([]byte, 0, len(plain)+len(text)+4)
	out = append(out, plain[:header]...)
	out = append(out, 0xff, 0xfe)
	out = binary.BigEndian.AppendUint16(out, uint16(len(text)+2)) //nolint:gosec // at most maxText
	out = append(out, text...)
	return append(out, plain[header:]...)
}
