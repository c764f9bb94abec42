package sandbox

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"strconv"
	"sync"
)

// modules is the number of dark and light fields along each side of the drawn code.
const modules = 25

// pictures draws codes: one square pattern for each width, kept, since drawing costs more than all else in a call. What a
// code leads to stands in its comment, so that a test can tell whose code it holds.
type pictures struct {
	mu      sync.Mutex
	byWidth map[int][]byte
}

func (p *pictures) draw(width int, target string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	plain, ok := p.byWidth[width]
	if !ok {
		if p.byWidth == nil {
			p.byWidth = map[int][]byte{}
		}
		plain = drawCode(width)
		p.byWidth[width] = plain
	}
	return withComment(plain, target)
}

// drawCode is a PNG that looks like a QR code, and is none.
func drawCode(width int) []byte {
	img := image.NewPaletted(image.Rect(0, 0, width, width), color.Palette{color.White, color.Black})
	for y := range width {
		for x := range width {
			img.Pix[y*img.Stride+x] = module(x*modules/width, y*modules/width)
		}
	}
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		panic(err) // a buffer takes everything, and the palette fits
	}
	return buf.Bytes()
}

// module is 1 for a dark field: three corner squares, and a fixed speckle elsewhere.
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
	return uint8(scramble(uint64(x*modules+y)) & 1) //nolint:gosec // coordinates are small and not negative
}

// withComment puts a text chunk behind the header of a PNG, which ends at a fixed place.
// Source: https://www.w3.org/TR/png-3/#11tEXt
func withComment(plain []byte, text string) []byte {
	const header = 8 + 4 + 4 + 13 + 4
	chunk := append([]byte("tEXtComment\x00"), strconv.QuoteToASCII(text)...)
	out := make([]byte, 0, len(plain)+len(chunk)+8)
	out = append(out, plain[:header]...)
	out = binary.BigEndian.AppendUint32(out, uint32(len(chunk)-4)) //nolint:gosec // texts are bounded by the body's size
	out = append(out, chunk...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(chunk))
	return append(out, plain[header:]...)
}
