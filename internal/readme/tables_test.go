package readme

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// root is the folder of the READMEs.
const root = "../.."

// A table is one generated part, by the language it is written in.
type table struct {
	name  string
	write func(io.Writer, language) error
}

func tables() []table {
	return []table{
		{"types", writeTypes},
		{"outcomes", writeOutcomes},
		{"codes", func(w io.Writer, _ language) error { return wechat.WriteCodeTable(w) }},
		{"limits", func(w io.Writer, _ language) error { return ratelimit.WriteLimitTable(w) }},
	}
}

// TestTables compares the tables with the code, or writes them where README_UPDATE is set.
func TestTables(t *testing.T) {
	for _, l := range languages() {
		t.Run(l.file, func(t *testing.T) {
			path := filepath.Join(root, l.file)
			text, err := os.ReadFile(path) //nolint:gosec // a file of this project
			if err != nil {
				t.Fatal(err)
			}
			want := text
			for _, table := range tables() {
				var b bytes.Buffer
				if err := table.write(&b, l); err != nil {
					t.Fatal(err)
				}
				if want, err = splice(want, table.name, b.Bytes()); err != nil {
					t.Fatal(err)
				}
			}
			if bytes.Equal(want, text) {
				return
			}
			if os.Getenv("README_UPDATE") == "" {
				t.Fatalf("%s does not say what the code says: run make tables\n%s", l.file, difference(text, want))
			}
			if err := os.WriteFile(path, want, 0o644); err != nil { //nolint:gosec // a README is for everybody to read
				t.Fatal(err)
			}
		})
	}
}

// splice replaces what stands between the marks of a name.
func splice(text []byte, name string, table []byte) ([]byte, error) {
	begin, end := "<!-- begin: "+name+" -->\n", "<!-- end: "+name+" -->"
	head, rest, ok := bytes.Cut(text, []byte(begin))
	if !ok {
		return nil, fmt.Errorf("there is no %q", strings.TrimSpace(begin))
	}
	_, tail, ok := bytes.Cut(rest, []byte(end))
	if !ok {
		return nil, fmt.Errorf("there is no %q", end)
	}
	return fmt.Appendf(nil, "%s%s\n%s\n%s%s", head, begin, table, end, tail), nil
}

// difference is the first line in which two texts differ.
func difference(have, want []byte) string {
	h, w := strings.Split(string(have), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(h), len(w)) {
		if h[i] != w[i] {
			return fmt.Sprintf("line %d\nhave %s\nwant %s", i+1, h[i], w[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(h), len(w))
}

// writeTypes writes the catalog of task types.
func writeTypes(w io.Writer, l language) error {
	var b strings.Builder
	b.WriteString(l.typesHead)
	for _, spec := range tasks.Catalog() {
		makes, ok := l.kinds[spec.Kind]
		if !ok {
			return fmt.Errorf("no words for the kind %s", spec.Kind)
		}
		repeat, ok := l.repeats[spec.Repeat]
		if !ok {
			return fmt.Errorf("no words for the repetition %s", spec.Repeat)
		}
		name := "`" + spec.Type + "`"
		if spec.Warning != "" {
			name += " " + l.warned
		}
		fmt.Fprintf(&b, "| %s | [%s](%s) | %s | %s |\n", name, spec.Path, spec.Doc, makes, repeat)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeOutcomes writes how a task can end.
func writeOutcomes(w io.Writer, l language) error {
	var b strings.Builder
	b.WriteString(l.outcomesHead)
	for _, outcome := range tasks.Outcomes() {
		meaning, ok := l.outcomes[outcome]
		if !ok {
			return fmt.Errorf("no words for the outcome %s", outcome)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", outcome, meaning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
