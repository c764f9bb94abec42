package readme

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// root is the folder of the READMEs.
const root = "../.."

// A table is one generated part of a page, written in the page's language.
type table struct {
	name  string
	page  func(language) string // path of the page that holds it
	write func(io.Writer, language) error
}

func tables() []table {
	return []table{
		{"types", language.readme, writeTypes},
		{"outcomes", language.readme, writeOutcomes},
		{"pages", inDocs("tasks.md"), writePages},
		{"result", inDocs("tasks.md"), writeResult},
		{"commands", inDocs("cli.md"), writeCommands},
		{"codes", inDocs("codes.md"), writeCodes},
		{"limits", inDocs("limits.md"), writeLimits},
	}
}

func inDocs(name string) func(language) string {
	return func(l language) string { return l.doc(name) }
}

// TestTables compares the tables with the code, or writes them if README_UPDATE is set.
func TestTables(t *testing.T) {
	for _, l := range languages() {
		for _, table := range tables() {
			path := table.page(l)
			t.Run(table.name+" in "+path, func(t *testing.T) {
				text := []byte(read(t, path))
				var b bytes.Buffer
				if err := table.write(&b, l); err != nil {
					t.Fatal(err)
				}
				want, err := splice(text, table.name, b.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(want, text) {
					return
				}
				if os.Getenv("README_UPDATE") == "" {
					t.Fatalf("%s differs from the code: run make tables\n%s", path, difference(text, want))
				}
				if err := os.WriteFile(filepath.Join(root, path), want, 0o644); err != nil { //nolint:gosec // documentation is readable by everybody
					t.Fatal(err)
				}
			})
		}
	}
}

// splice replaces the text between the marks of a name.
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

// difference returns the first line in which two texts differ.
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
		success, ok := l.kinds[spec.Kind]
		if !ok {
			return fmt.Errorf("no words for the kind %s", spec.Kind)
		}
		repeat, ok := l.repeats[spec.Repeat]
		if !ok {
			return fmt.Errorf("no words for the repetition %s", spec.Repeat)
		}
		if spec.Scarce != "" {
			repeat += l.scarce
		}
		name := "`" + spec.Type + "`"
		if spec.Warning != "" {
			name += " " + l.retired
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, spec.Path, success, repeat)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writePages writes the page of WeChat's documentation for each task type.
func writePages(w io.Writer, l language) error {
	var b strings.Builder
	b.WriteString(l.pagesHead)
	for _, spec := range tasks.Catalog() {
		fmt.Fprintf(&b, "| `%s` | [%s](%s) |\n", spec.Type, spec.Path, spec.Doc)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeOutcomes writes the outcomes and their meanings.
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

// writeResult writes the fields of a result, in the order of the type tasks.Result.
func writeResult(w io.Writer, l language) error {
	var b strings.Builder
	b.WriteString(l.resultHead)
	typ := reflect.TypeFor[tasks.Result]()
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		meaning, ok := l.result[name]
		if !ok {
			return fmt.Errorf("languages_test.go has no words for the field %s of %s", name, typ)
		}
		kind := l.jsonTypes["string"]
		switch {
		case field.Type.Kind() == reflect.Int:
			kind = l.jsonTypes["number"]
		case field.Type == reflect.TypeFor[time.Time]():
			kind = l.jsonTypes["time"]
		case field.Type.Kind() == reflect.Pointer:
			kind = l.jsonTypes["object"]
		case field.Type.Kind() == reflect.Slice:
			kind = l.jsonTypes["strings"]
		}
		if options == "" {
			kind += l.always
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", name, kind, meaning)
	}
	if len(l.result) != typ.NumField() {
		return fmt.Errorf("languages_test.go has words for %d fields of %s, which has %d", len(l.result), typ, typ.NumField())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeCommands writes the program's commands: in English with their help texts.
func writeCommands(w io.Writer, l language) error {
	program, err := os.ReadFile(filepath.Join(root, "cmd/wxcourier/program.go"))
	if err != nil {
		return err
	}
	field := regexp.MustCompile(`(?m)^\s+(\w+)\s+\w+Command\s+\x60cmd:"" help:"([^"]+)"`)
	found := field.FindAllStringSubmatch(string(program), -1)
	if len(found) == 0 {
		return fmt.Errorf("no command in the code")
	}
	var b strings.Builder
	b.WriteString(l.commandsHead)
	for _, match := range found {
		name, help := strings.ToLower(match[1]), match[2]
		if l.commands != nil {
			var ok bool
			if help, ok = l.commands[name]; !ok {
				return fmt.Errorf("no words for the command %s", name)
			}
		}
		code, err := os.ReadFile(filepath.Join(root, "cmd/wxcourier", name+".go")) //nolint:gosec // a file of this project
		if err == nil && regexp.MustCompile("(?m)^\\s+File\\s+string\\s+`arg:").Match(code) {
			name += " FILE"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, help)
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// writeCodes writes the table of WeChat's codes.
func writeCodes(w io.Writer, l language) error {
	return localise(w, wechat.WriteCodeTable, l.codesHead, l.codesCells)
}

// writeLimits writes WeChat's documented limits.
func writeLimits(w io.Writer, l language) error {
	return localise(w, ratelimit.WriteLimitTable, l.limitsHead, l.limitsCells)
}

// localise writes a table that is generated in English, with another head and some words
// replaced. An empty head leaves the table as it is.
func localise(w io.Writer, write func(io.Writer) error, head string, words *strings.Replacer) error {
	if head == "" {
		return write(w)
	}
	var b bytes.Buffer
	if err := write(&b); err != nil {
		return err
	}
	first, body, _ := strings.Cut(b.String(), "\n")
	if strings.Count(first, "|") != strings.Count(head, "|") {
		return fmt.Errorf("the head %q has another number of columns than %q", head, first)
	}
	_, err := io.WriteString(w, head+"\n"+words.Replace(body))
	return err
}
