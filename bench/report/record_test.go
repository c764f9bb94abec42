package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const figures = `# Benchmarks

## Enqueuing

| way | rate |
|---|---|
| one | 1 |

## The pace, and what it costs

All of it.

### First

Old about.

| case | a |
|---|---|
| x | 1 |

Measured long ago,
on two lines.

A note.

### Second

| case | b |
|---|---|
| y | 2 |

## Faults

None.
`

func tableOf(title string) *Table {
	t := &Table{Title: title, About: "New about.", Head: []string{"case", "a"}}
	t.Add("c", "7")
	return t
}

func TestInsertTable(t *testing.T) {
	fresh := func(title string) string {
		return "### " + title + "\n\nNew about.\n\n| case | a |\n|---|---|\n| c | 7 |\n\nMeasured today.\n"
	}
	cut := func(text, from, to string) string {
		a, rest, _ := strings.Cut(text, from)
		_, b, _ := strings.Cut(rest, to)
		return a + "\x00" + b
	}
	for _, tt := range []struct{ name, title, want string }{
		{"in place of the old one, notes are kept", "First", strings.Replace(cut(figures, "### First", "two lines.\n"), "\x00", fresh("First"), 1)},
		{"the last one of the chapter", "Second", strings.Replace(cut(figures, "### Second", "| y | 2 |\n"), "\x00", fresh("Second"), 1)},
		{"a new one", "Third", strings.Replace(figures, "## Faults", fresh("Third")+"\n## Faults", 1)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := insertTable(figures, tableOf(tt.title), "today.")
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
			again, err := insertTable(got, tableOf(tt.title), "today.")
			if err != nil || again != got {
				t.Errorf("a second time changes it (%v):\n%s", err, again)
			}
		})
	}
	if _, err := insertTable("# Something else\n", tableOf("First"), "today."); err == nil {
		t.Error("no error for a file without the chapter")
	}
}

func TestRecordAtEndOfFile(t *testing.T) {
	text, _, _ := strings.Cut(figures, "\n## Faults")
	path := filepath.Join(t.TempDir(), "figures.md")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Record(path, tableOf("Third"), "today."); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path) //nolint:gosec // in the test's own folder
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(got), "### Third"); n != 1 || !strings.HasSuffix(string(got), "Measured today.\n") {
		t.Errorf("%d sections, or the file does not end with the table:\n%s", n, got)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
