package report

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// A figure that misses its target is bold in Markdown, and listed in JSON.
func TestTableShowsMisses(t *testing.T) {
	table := &Table{Name: "x", Title: "X", About: "About.", Head: []string{"case", "share", "over"}}
	table.Add("good", Percent(0.98).AtLeast(97.5), Count(0).AtMost(0))
	table.Add("bad", Percent(0.97).AtLeast(97.5), Count(2).AtMost(0))
	if n := table.Missed(); n != 2 {
		t.Errorf("%d missed, want 2", n)
	}
	var text, lines bytes.Buffer
	if err := table.Markdown(&text); err != nil {
		t.Fatal(err)
	}
	if err := table.JSON(&lines); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| good | 98.0 % | 0 |", "| bad | **97.0 %** | **2** |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, &text)
		}
	}
	if want := `{"case":"bad","missed":["share","over"],"over":2,"share":97}`; !strings.Contains(lines.String(), want) {
		t.Errorf("no %s in\n%s", want, &lines)
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.25: 1, 0.5: 2, 0.51: 3, 0.99: 4, 1: 4} {
		if got := Quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if !math.IsNaN(Quantile(nil, 0.5)) {
		t.Error("the quantile of no values is not NaN")
	}
}
