package report

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// recordHeading is the heading of the chapter that contains this program's tables.
const recordHeading = "## The pace, and what it costs"

// measuredPrefix is the beginning of the paragraph below a table with the conditions of its
// measurement.
const measuredPrefix = "Measured "

// Record writes a table to a file such as BENCHMARKS.md, in place of the earlier one with the same
// title. Text below the table and its conditions is kept.
func Record(path string, t *Table, conditions string) error {
	old, err := os.ReadFile(path) //nolint:gosec // the user's own file
	if err != nil {
		return err
	}
	text, err := insertTable(string(old), t, conditions)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	// Write a new file and rename it, so that a full disk does not destroy the old one.
	next, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = next.WriteString(text)
	err = errors.Join(err, next.Chmod(0o644), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), path)
	}
	if err != nil {
		_ = os.Remove(next.Name())
	}
	return err
}

// insertTable returns text with the table in it: in place of the one with the same title, or at the
// end of the chapter.
func insertTable(text string, t *Table, conditions string) (string, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	begin := indexLine(lines, 0, func(s string) bool { return s == recordHeading })
	if begin == len(lines) {
		return "", fmt.Errorf("no chapter %q", recordHeading)
	}
	end := indexLine(lines, begin+1, func(s string) bool { return strings.HasPrefix(s, "## ") })
	from := begin + indexLine(lines[begin:end], 0, func(s string) bool { return s == "### "+t.Title })
	to := from
	if from < end {
		section := from + 1 + indexLine(lines[from+1:end], 0, func(s string) bool { return strings.HasPrefix(s, "### ") })
		to = afterTable(lines[:section], from+1)
	}
	var b strings.Builder
	if err := t.Markdown(&b); err != nil {
		return "", err
	}
	fresh := "#" + strings.TrimRight(b.String(), "\n") + "\n\n" + wrap(measuredPrefix+conditions, 92)
	if to < len(lines) {
		fresh += "\n"
	}
	before, after := strings.Join(lines[:from], "\n"), strings.Join(lines[to:], "\n")
	return strings.TrimRight(before, "\n") + "\n\n" + fresh + "\n" + strings.TrimPrefix(after, "\n") + newlineAfter(after), nil
}

func newlineAfter(last string) string {
	if last == "" {
		return ""
	}
	return "\n"
}

// afterTable returns the index of the first line after a section's table and its conditions.
func afterTable(lines []string, from int) int {
	inTable := func(s string) bool { return strings.HasPrefix(s, "|") }
	at := indexLine(lines, from, inTable)
	if at == len(lines) { // no table: keep all of the text
		return from
	}
	at = indexLine(lines, at, func(s string) bool { return !inTable(s) })
	next := indexLine(lines, at, func(s string) bool { return s != "" })
	if next == len(lines) || !strings.HasPrefix(lines[next], measuredPrefix) {
		return at
	}
	return indexLine(lines, next, func(s string) bool { return s == "" })
}

// indexLine returns the index of the first line, from an index on, for which match is true;
// len(lines) when there is none.
func indexLine(lines []string, from int, match func(string) bool) int {
	for i := from; i < len(lines); i++ {
		if match(lines[i]) {
			return i
		}
	}
	return len(lines)
}
