package console

import (
	"fmt"
	"strings"
	"testing"
)

func TestAMessageGoesAboveTheStatus(t *testing.T) {
	var out strings.Builder
	c := New(&out)
	c.width = func() int { return 12 }
	c.Status("10 of 100, and more")
	_, _ = fmt.Fprintln(c, "a message")
	c.Status("")
	want := clearLine + "10 of 100, " + clearLine + "a message\n" + "10 of 100, " + clearLine
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func TestWithoutATerminalThereIsNoStatus(t *testing.T) {
	var out strings.Builder
	c := New(&out)
	c.Status("10 of 100")
	_, _ = fmt.Fprintln(c, "a message")
	if got := out.String(); got != "a message\n" || c.Terminal() {
		t.Errorf("got %q", got)
	}
}

func TestOutputBesideTheStatus(t *testing.T) {
	var out strings.Builder
	c := New(&out)
	c.width = func() int { return 40 }
	c.Status("1 of 2")
	results := c.WriterFor(&out)
	_, _ = fmt.Fprint(results, "half a line")
	c.Status("2 of 2")
	_, _ = fmt.Fprint(results, ", and the rest\n")
	want := clearLine + "1 of 2" + clearLine + "half a line, and the rest\n2 of 2"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
	c.width = func() int { return 0 }
	if c.WriterFor(&out) != &out {
		t.Error("without a terminal WriterFor does not return its argument")
	}
}
