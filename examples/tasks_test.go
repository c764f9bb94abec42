// Package examples_test checks the examples that the README shows.
package examples_test

import (
	"bufio"
	"os"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// TestTaskFile checks that every line of tasks.jsonl is a valid task, that no id occurs twice,
// and that every task type occurs.
func TestTaskFile(t *testing.T) {
	file, err := os.Open("tasks.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var (
		lines    = bufio.NewScanner(file)
		seen     = map[string]bool{} // types
		taken    = map[string]bool{} // app and id
		bulk     bool
		notAfter bool
	)
	lines.Buffer(nil, tasks.MaxLine)
	for n := 1; lines.Scan(); n++ {
		e, err := tasks.ParseEnvelope(lines.Bytes())
		if err != nil {
			t.Errorf("line %d: %v", n, err)
			continue
		}
		if err := e.Prepare(time.Now()); err != nil {
			t.Errorf("line %d: %v", n, err)
		}
		if taken[e.TaskID()] {
			t.Errorf("line %d: the id %s occurs twice", n, e.ID)
		}
		taken[e.TaskID()] = true
		seen[e.Type] = true
		bulk = bulk || e.Priority == tasks.Bulk && e.Batch != ""
		notAfter = notAfter || !e.NotAfter.IsZero()
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	for _, spec := range tasks.Catalog() {
		if !seen[spec.Type] && !spec.Callback { // whose push a run of the file cannot get
			t.Errorf("no example of %s", spec.Type)
		}
	}
	if !bulk || !notAfter {
		t.Error("no example of priority bulk in a batch, or none of not_after")
	}
}
