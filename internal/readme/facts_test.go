package readme

import (
	"maps"
	"os"
	"path"
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

// found returns the sorted set of what the first group of a pattern matches in a text.
func found(text, pattern string) []string {
	set := map[string]bool{}
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		set[match[1]] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// files returns the paths of the project's files whose names end with a suffix.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, suffix) {
			path, err = filepath.Rel(root, path)
			all = append(all, filepath.ToSlash(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Both READMEs are short enough to be read in five minutes.
func TestReadmeSize(t *testing.T) {
	for _, l := range languages() {
		if size := len(read(t, l.readme())); size > maxReadme {
			t.Errorf("%s has %d bytes, more than %d: move details to %s", l.readme(), size, maxReadme, l.docs)
		}
	}
}

// The install line comes before the concepts.
func TestInstallComesFirst(t *testing.T) {
	for _, l := range languages() {
		text := read(t, l.readme())
		install, concepts := strings.Index(text, "go install "), strings.Index(text, "┌")
		if install < 0 || concepts < 0 || install > concepts {
			t.Errorf("%s: the install line is at byte %d, the diagram at %d", l.readme(), install, concepts)
		}
	}
}

// A block that enqueues lines with fixed ids does so once: the text says what a repetition prints.
func TestBlocksThatCannotBeRepeated(t *testing.T) {
	for _, l := range languages() {
		for _, page := range []string{l.readme(), l.doc("cli.md")} {
			text := read(t, page)
			for _, block := range regexp.MustCompile("(?s)```(?:sh|console)\n.*?\n```\n").FindAllStringIndex(text, -1) {
				if !regexp.MustCompile(`"id":"[^\n]* enqueue -`).MatchString(text[block[0]:block[1]]) {
					continue
				}
				after := text[block[1]:min(block[1]+300, len(text))]
				if !strings.Contains(after, "already enqueued") && !strings.Contains(after, "已经入队") {
					t.Errorf("%s: nothing after this block says that it works once:\n%s", page, text[block[0]:block[1]])
				}
			}
		}
	}
}

// docs/operations.md lists the metrics of the worker, the gateway, the callbacks and the webhooks, and no others.
func TestMetrics(t *testing.T) {
	var code strings.Builder
	for _, file := range files(t, ".go") {
		if slices.Contains([]string{"worker", "gateway", "gateway/callback", "gateway/webhook", "internal/buildinfo", "internal/dispatch", "internal/inspect"}, path.Dir(file)) && !strings.HasSuffix(file, "_test.go") {
			code.WriteString(read(t, file))
		}
	}
	want := found(code.String(), `"(wxcourier_[a-z_]+)"`)
	if len(want) == 0 {
		t.Fatal("no metric in the code")
	}
	for _, l := range languages() {
		if got := found(read(t, l.doc("operations.md")), "\\| `(wxcourier_[a-z_]+)"); !slices.Equal(got, want) {
			t.Errorf("%s lists\n%v, the code has\n%v", l.doc("operations.md"), got, want)
		}
	}
}

// docs/dependencies.md lists the direct dependencies and nothing else.
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
		if got := found(read(t, l.doc("dependencies.md")), "(?m)^\\| `([a-z]+\\.[a-z.]+/[\\w./-]+)` \\| [^|]+ \\| [^|]+ \\|$"); !slices.Equal(got, want) {
			t.Errorf("%s lists\n%v, go.mod has\n%v", l.doc("dependencies.md"), got, want)
		}
	}
}

// The image is built with the Go that go.mod requires.
func TestDockerfileGo(t *testing.T) {
	image := found(read(t, "Dockerfile"), `FROM golang:(\d+\.\d+)`)
	module := found(read(t, "go.mod"), `(?m)^go (\d+\.\d+)`)
	if len(image) != 1 || !slices.Equal(image, module) {
		t.Errorf("the Dockerfile builds with Go %v, go.mod requires %v", image, module)
	}
}

// Links of all Markdown files to files and headings of the project resolve.
func TestLinks(t *testing.T) {
	for _, file := range files(t, ".md") {
		for _, target := range found(read(t, file), `\]\(([^)\s]+)\)`) {
			if strings.Contains(target, "://") {
				continue
			}
			path, anchor, _ := strings.Cut(target, "#")
			path = filepath.Join(filepath.Dir(file), path)
			if strings.HasPrefix(target, "#") {
				path = file
			}
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s links to %s, which does not exist", file, target)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s links to %s, but %s has no such heading", file, target, path)
			}
		}
	}
}

// Links in Go comments and messages to pages and headings of the project resolve.
func TestAnchorsInCode(t *testing.T) {
	url := regexp.MustCompile(`https?://\S+`)
	for _, file := range files(t, ".go") {
		for _, target := range found(url.ReplaceAllString(read(t, file), ""), `\b((?:docs/)?[\w./-]+\.md#[^\s)"'\x60]+)`) {
			path, anchor, _ := strings.Cut(strings.TrimRight(target, ".,:;"), "#")
			if !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s names %s, but %s has no such heading", file, target, path)
			}
		}
	}
}

// anchors returns the names that GitHub gives the headings of a Markdown text.
func anchors(text string) []string {
	var all []string
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "```") {
			fenced = !fenced
		}
		heading := regexp.MustCompile(`^#+ +(.+?)\s*$`).FindStringSubmatch(line)
		if fenced || heading == nil {
			continue
		}
		title := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading[1], "$1")
		name := regexp.MustCompile(`[^\p{L}\p{M}\p{N}_ -]`).ReplaceAllString(strings.ToLower(title), "")
		all = append(all, strings.ReplaceAll(name, " ", "-"))
	}
	return all
}

func TestAnchors(t *testing.T) {
	text := "# What `status` shows\n\n```sh\n# no heading\n```\n\n## [Limits](limits.md), reserve and pace\n## 重投、取消与暂停\n"
	want := []string{"what-status-shows", "limits-reserve-and-pace", "重投取消与暂停"}
	if got := anchors(text); !slices.Equal(got, want) {
		t.Errorf("anchors: %q, want %q", got, want)
	}
}

// Each page has its counterpart in the other language where it exists, and links to it.
func TestTranslations(t *testing.T) {
	for _, file := range files(t, ".md") {
		if filepath.Dir(file) != "docs/zh-CN" {
			continue
		}
		name := filepath.Base(file)
		if !strings.Contains(read(t, file), "[English](../"+name+")") {
			t.Errorf("%s does not link to docs/%s", file, name)
		}
		if !strings.Contains(read(t, "docs/"+name), "[简体中文](zh-CN/"+name+")") {
			t.Errorf("docs/%s does not link to %s", name, file)
		}
	}
}

// The tests that a page names exist: `TestName`.
func TestNamedTests(t *testing.T) {
	var code strings.Builder
	for _, file := range files(t, "_test.go") {
		code.WriteString(read(t, file))
	}
	exist := found(code.String(), `(?m)^func ((?:Test|Fuzz|Example)\w+)\(`)
	for _, file := range files(t, ".md") {
		for _, name := range found(read(t, file), "`((?:Test|Fuzz|Example)\\w+)`") {
			if !slices.Contains(exist, name) {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	for _, l := range languages() {
		if page := l.doc("guarantees.md"); len(found(read(t, page), "`(Test\\w+)`")) < 100 {
			t.Errorf("%s names hardly any tests", page)
		}
	}
}

// The guarantees name the same tests in both languages.
func TestSameGuarantees(t *testing.T) {
	named := func(page string) []string { return found(read(t, page), "`((?:Test|Fuzz|Example)\\w+)`") }
	want := named("docs/guarantees.md")
	for _, l := range languages() {
		if got := named(l.doc("guarantees.md")); !slices.Equal(got, want) {
			for _, name := range want {
				if !slices.Contains(got, name) {
					t.Errorf("%s does not name %s", l.doc("guarantees.md"), name)
				}
			}
			for _, name := range got {
				if !slices.Contains(want, name) {
					t.Errorf("docs/guarantees.md does not name %s", name)
				}
			}
		}
	}
}
