package summary_test

import (
	"os"
	"testing"

	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

func ExampleSummary_Write() {
	var t summary.Summary
	for range 1200 {
		t.Add(tasks.Result{Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeAccepted})
	}
	t.Add(tasks.Result{Type: tasks.TypeSubscribe, Outcome: tasks.OutcomeRefused})
	t.Add(tasks.Result{Type: tasks.TypeScheme, Outcome: tasks.OutcomeAccepted})
	_ = t.Write(os.Stdout)
	// Output:
	// type               accepted  refused  total
	// send:subscribe        1,200        1  1,201
	// scheme:generate           1        0      1
	// total                 1,201        1  1,202
}

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := summary.Number(n); got != want {
			t.Errorf("Number(%d) = %q, want %q", n, got, want)
		}
	}
}
