package main

import (
	"bufio"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/tasks"
)

const idForm = "1 to 128 of the characters A-Z a-z 0-9 . _ ~ -"

// validIDs checks the values of --id.
func validIDs(ids []string) error {
	for _, id := range ids {
		if !tasks.ValidID(id) { // "-" passes as well
			return usageErrorf("--id: %q is not an id: %s", id, idForm)
		}
	}
	return nil
}

// idReader yields the ids given by --id and on standard input, each once.
type idReader struct {
	program *program
	bad     int // lines that are not ids; they were reported and skipped
	readErr error
}

// all yields the values of --id; in place of "-", the lines of standard input.
func (r *idReader) all(named []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		seen := make(map[string]bool)
		once := func(id string) bool {
			if seen[id] {
				return true
			}
			seen[id] = true
			return yield(id)
		}
		for _, id := range named {
			if id == "-" && !r.lines(once) || id != "-" && !once(id) {
				return
			}
		}
	}
}

// lines reads standard input. It returns false when yield did or reading failed.
func (r *idReader) lines(yield func(string) bool) bool {
	lines := bufio.NewScanner(interruptible(r.program.ctx, r.program.stdin))
	for n := 1; lines.Scan(); n++ {
		id := strings.TrimSpace(lines.Text())
		switch {
		case id == "":
		case !tasks.ValidID(id):
			r.bad++
			r.program.notef("stdin:%d: not an id: %s", n, idForm)
		case !yield(id):
			return false
		}
	}
	r.readErr = lines.Err()
	return r.readErr == nil
}

// err returns the error of the reading, if any; lines that are not ids are one.
func (r *idReader) err() error {
	if r.readErr != nil {
		return fmt.Errorf("read the ids: %w", r.readErr)
	}
	if r.bad > 0 {
		return errors.New(describe.Count(r.bad, "line") + " skipped: not ids")
	}
	return nil
}
