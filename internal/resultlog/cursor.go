package resultlog

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// A Cursor is a position in the streams of several apps: by app, the last entry that was read. An
// app that it does not have begins with its oldest entry.
type Cursor map[string]Position

// A Position is the id of an entry of a stream: ms since 1970, and a number within that ms.
type Position struct{ MS, Seq uint64 }

// Since returns the position before all entries at or after a time.
func Since(t time.Time) Position { return parsePosition(string(tasks.Since(t))) }

// parsePosition returns the position of a valid id, and the zero Position for others.
func parsePosition(id string) Position {
	ms, seq, _ := strings.Cut(id, "-")
	var p Position
	p.MS, _ = strconv.ParseUint(ms, 10, 64)
	p.Seq, _ = strconv.ParseUint(seq, 10, 64)
	return p
}

// String returns the id.
func (p Position) String() string {
	return strconv.FormatUint(p.MS, 10) + "-" + strconv.FormatUint(p.Seq, 10)
}

// compare orders positions as their streams do.
func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.MS, q.MS), cmp.Compare(p.Seq, q.Seq))
}

// cursorVersion is the first byte of a cursor's text form, before base64.
const cursorVersion = 1

// String returns the cursor's text form, which ParseCursor reads: about 16 characters an app. Apps
// without a valid id are left out.
func (c Cursor) String() string {
	var newest uint64
	for _, p := range c {
		newest = max(newest, p.MS)
	}
	b := binary.AppendUvarint([]byte{cursorVersion}, newest)
	for _, app := range slices.Sorted(maps.Keys(c)) {
		id, err := hex.DecodeString(strings.TrimPrefix(app, "wx"))
		if err != nil || !tasks.ValidApp(app) {
			continue
		}
		b = append(b, id...)
		b = binary.AppendUvarint(b, newest-c[app].MS)
		b = binary.AppendUvarint(b, c[app].Seq)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// ErrCursor is the error for a text that is not a cursor.
var ErrCursor = errors.New("resultlog: not a cursor")

// ParseCursor parses the text form of a cursor; "" is the empty one.
func ParseCursor(text string) (Cursor, error) {
	if text == "" {
		return Cursor{}, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) == 0 || b[0] != cursorVersion { // a text of line breaks decodes to nothing
		return nil, ErrCursor
	}
	b = b[1:]
	number := func() (n uint64) {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			err, b = ErrCursor, nil
			return 0
		}
		b = b[size:]
		return n
	}
	c, newest := Cursor{}, number()
	for len(b) >= appBytes && err == nil {
		app := "wx" + hex.EncodeToString(b[:appBytes])
		b = b[appBytes:]
		ago, seq := number(), number()
		if _, again := c[app]; again || ago > newest {
			return nil, ErrCursor
		}
		c[app] = Position{newest - ago, seq}
	}
	if err != nil || len(b) > 0 {
		return nil, ErrCursor
	}
	return c, nil
}

// appBytes is the length of an app id without its "wx", in bytes.
const appBytes = 8
