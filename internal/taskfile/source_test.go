package taskfile_test

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/wxcourier/wxcourier/internal/taskfile"
	"github.com/wxcourier/wxcourier/tasks"
)

const app = "wx0123456789abcdef"

func envelope(id string) string {
	return `{"type":"seccheck:text","app":"` + app + `","id":"` + id + `","body":{"content":"x","version":2,"scene":1,"openid":"o"}}`
}

func read(t *testing.T, text string) []taskfile.Item {
	t.Helper()
	var items []taskfile.Item
	for item, err := range taskfile.New(iotest.HalfReader(strings.NewReader(text))).Items() {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	return items
}

func TestItems(t *testing.T) {
	anonymous := strings.Replace(envelope("x"), `"id":"x",`, "", 1)
	long := strings.Repeat("x", tasks.MaxLine+1)
	for _, tt := range []struct {
		name, text string
		want       string // per item a letter (t task, b bad, d duplicate) and its line
	}{
		{"empty", "", ""},
		{"blank lines", "\n \n\t\r\n", ""},
		{"one without an end", envelope("a"), "t1"},
		{"CRLF and a byte order mark", "\uFEFF" + envelope("a") + "\r\n" + envelope("b") + "\r\n", "t1 t2"},
		{"bad among good", envelope("a") + "\n{\n" + envelope("b") + "\n", "t1 b2 t3"},
		{"a line too long", envelope("a") + "\n" + long + "\n" + envelope("b"), "t1 b2 t3"},
		{"a line too long at the end", long, "b1"},
		{"duplicate", envelope("a") + "\n\n" + envelope("a") + "\n" + envelope("b"), "t1 d3 t4"},
		{"equal lines without an id", anonymous + "\n" + anonymous + "\n", "t1 t2"},
		{"binary", "\x00\x01\x02\n\xff\xfe", "b1 b2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, item := range read(t, tt.text) {
				kind := "t"
				switch {
				case item.Err != nil:
					kind = "b"
					var invalid *tasks.ValidationError
					if !errors.As(item.Err, &invalid) {
						t.Errorf("line %d: %T, want a *ValidationError", item.Line, item.Err)
					}
				case item.Duplicate:
					kind = "d"
				}
				got = append(got, kind+strconv.Itoa(item.Line))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

func TestLineOfMaximumLength(t *testing.T) {
	e := envelope("a")
	exact := e + strings.Repeat(" ", tasks.MaxLine-len(e))
	for _, end := range []string{"", "\n", "\r\n"} {
		if items := read(t, exact+end); len(items) != 1 || items[0].Err != nil {
			t.Errorf("with the end %q: %+v", end, items)
		}
	}
}

func TestLinesWithoutIDGetStableIDs(t *testing.T) {
	anonymous := strings.Replace(envelope("x"), `"id":"x",`, "", 1) + "\n"
	first, second := read(t, anonymous+anonymous), read(t, anonymous+anonymous)
	if first[0].Envelope.ID == first[1].Envelope.ID {
		t.Error("equal lines have the same id")
	}
	for i := range first {
		if first[i].Envelope.ID != second[i].Envelope.ID {
			t.Errorf("line %d: %s, then %s", i+1, first[i].Envelope.ID, second[i].Envelope.ID)
		}
	}
}

func TestABrokenStreamIsAnError(t *testing.T) {
	broken := errors.New("the disk is gone")
	r := io.MultiReader(strings.NewReader(envelope("a")+"\n"), iotest.ErrReader(broken))
	n := 0
	for item, err := range taskfile.New(r).Items() {
		n++
		if n == 2 && (!errors.Is(err, broken) || item.Line != 2) {
			t.Errorf("item %+v, error %v", item, err)
		}
	}
	if n != 2 {
		t.Errorf("%d items", n)
	}
}

// TestUnboundedStream: ids are not remembered, and one bad line at the beginning does not change
// what is said of the others.
func TestUnboundedStream(t *testing.T) {
	source := taskfile.New(strings.NewReader("a,b\n{\"type\":\n" + envelope("a") + "\n" + envelope("a") + "\n"))
	source.Unbounded = true
	reads := 0
	source.BeforeRead = func() { reads++ }
	var items []taskfile.Item
	for item, err := range source.Items() {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item)
	}
	var format *taskfile.FormatError
	var invalid *tasks.ValidationError
	if len(items) != 4 || !errors.As(items[0].Err, &format) || !errors.As(items[1].Err, &invalid) || items[2].Err != nil || items[3].Duplicate {
		t.Errorf("%+v", items)
	}
	if reads != 2 { // the text, and its end
		t.Errorf("%d reads were announced", reads)
	}
}
