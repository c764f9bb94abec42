package readme

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // a file of this project
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// found is the sorted set of what the first group of a pattern matches in a text.
func found(text, pattern string) []string {
	set := map[string]bool{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		set[match[1]] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// The READMEs list the metrics that the worker has, and no others.
func TestMetrics(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "worker", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, file := range files {
		if !strings.HasSuffix(file, "_test.go") {
			code.WriteString(read(t, filepath.Join("worker", filepath.Base(file))))
		}
	}
	want := found(code.String(), `"(wxcourier_[a-z_]+)"`)
	if len(want) == 0 {
		t.Fatal("no metric in the code")
	}
	for _, l := range languages() {
		if got := found(read(t, l.file), "\\| `(wxcourier_[a-z_]+)"); !slices.Equal(got, want) {
			t.Errorf("%s lists\n%v, the code has\n%v", l.file, got, want)
		}
	}
}

// The READMEs list the commands that there are.
func TestCommands(t *testing.T) {
	program := read(t, "cmd/wxcourier/program.go")
	want := found(strings.ToLower(program), `(?m)^\s+(\w+)\s+\w+command\s+\x60cmd:`)
	if len(want) == 0 {
		t.Fatal("no command in the code")
	}
	for _, l := range languages() {
		if got := found(read(t, l.file), "(?m)^\\| `([a-z]+)(?: FILE)?` \\|"); !containsAll(got, want) {
			t.Errorf("%s lists %v, the program has %v", l.file, got, want)
		}
	}
	for _, help := range found(program, `cmd:"" help:"([^"]+)"`) {
		if !strings.Contains(read(t, "README.md"), help) {
			t.Errorf("README.md does not say: %s", help)
		}
	}
}

func containsAll(set, words []string) bool {
	return !slices.ContainsFunc(words, func(word string) bool { return !slices.Contains(set, word) })
}

// Each direct dependency is in the READMEs' table of dependencies, and nothing else is.
func TestDependencies(t *testing.T) {
	var want []string
	for _, line := range strings.Split(read(t, "go.mod"), "\n") {
		fields := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(fields) == 2 && strings.Contains(fields[0], "/") && strings.HasPrefix(fields[1], "v") {
			want = append(want, fields[0])
		}
	}
	slices.Sort(want)
	for _, l := range languages() {
		if got := found(read(t, l.file), `\| \[([a-z]+\.[a-z.]+/[\w./-]+)\]\(`); !slices.Equal(got, want) {
			t.Errorf("%s lists\n%v, go.mod has\n%v", l.file, got, want)
		}
	}
}

// The image is built with the Go that go.mod asks for.
func TestDockerfileGo(t *testing.T) {
	image := found(read(t, "Dockerfile"), `FROM golang:(\d+\.\d+)`)
	module := found(read(t, "go.mod"), `(?m)^go (\d+\.\d+)`)
	if len(image) != 1 || !slices.Equal(image, module) {
		t.Errorf("the Dockerfile builds with Go %v, go.mod asks for %v", image, module)
	}
}

// What the documents link to within the project is there.
func TestLinks(t *testing.T) {
	for _, file := range []string{"README.md", "README.zh-CN.md", "CHANGELOG.md", "bench/README.md", "docs/guarantees.md", "docs/operations.md", "docs/scale.md"} {
		for _, target := range found(read(t, file), `\]\(([^)#\s]+)[^)]*\)`) {
			if strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, filepath.Dir(file), target)); err != nil {
				t.Errorf("%s links to %s, which is not there", file, target)
			}
		}
	}
}

// The tests that a document names are there: `TestName` in package folder/.
func TestNamedTests(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path) //nolint:gosec // a file of this project
		code.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	there := found(code.String(), `(?m)^func ((?:Test|Fuzz|Example)\w+)\(`)
	for _, name := range found(read(t, "docs/guarantees.md"), "`((?:Test|Fuzz|Example)\\w+)`") {
		if !slices.Contains(there, name) {
			t.Errorf("docs/guarantees.md names %s, which is not there", name)
		}
	}
}
