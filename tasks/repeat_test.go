package tasks

import (
	"testing"
	"time"
)

func TestRepeatWindow(t *testing.T) {
	for repeat, want := range map[Repeat]time.Duration{Never: 0, Deduped: 10 * time.Minute, Always: 0} {
		if got := repeat.Window(); got != want {
			t.Errorf("%s: %v, want %v", repeat, got, want)
		}
	}
}
