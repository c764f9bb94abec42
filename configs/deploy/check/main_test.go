package check

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// root is the repository, deploy the folder whose files are checked.
const (
	root   = "../../.."
	deploy = ".."
)

func TestMain(m *testing.M) {
	code := redistest.Run(m)
	if dir, err := binaryDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// tool returns the path of an installed program.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not installed, but required in CI", name)
	default:
		t.Skipf("skipped: %s is not installed", name)
	}
	return ""
}

// run runs a program to its end and returns its output.
func run(t *testing.T, env []string, path string, args ...string) (output string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...) //nolint:gosec // a tool of the test
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// read returns a file of the repository.
func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...)) //nolint:gosec // a file of the repository
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write writes a file for the test and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// decode decodes YAML or JSON strictly: unknown and repeated fields are errors, and so are those
// that differ in case, which encoding/json accepts.
func decode(text string, into any) error {
	asJSON, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		return err
	}
	faults, err := json.UnmarshalStrict(asJSON, into)
	if err != nil {
		return err
	}
	if len(faults) > 0 {
		return faults[0]
	}
	return nil
}

func mustDecode(t *testing.T, name, text string, into any) {
	t.Helper()
	if err := decode(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// found returns what the group of a pattern matches, sorted, each once.
func found(text, pattern string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// TestDecodeIsStrict: the other tests rely on it.
func TestDecodeIsStrict(t *testing.T) {
	type object struct {
		Name string `json:"name"`
	}
	for _, text := range []string{"nmae: x", "Name: x", "name: x\nname: y", "name: [x]"} {
		if err := decode(text, &object{}); err == nil {
			t.Errorf("%q was decoded", text)
		}
	}
	var o object
	if err := decode("name: x", &o); err != nil || o.Name != "x" {
		t.Errorf("%+v, %v", o, err)
	}
}

// TestEveryFileIsChecked: a new file of configs/deploy needs a test.
func TestEveryFileIsChecked(t *testing.T) {
	var tests strings.Builder
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		tests.WriteString(read(t, name))
	}
	files := 0
	err = filepath.WalkDir(deploy, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "check" || entry.Name() == "secrets"): // these tests; what a user puts there
			return fs.SkipDir
		case entry.IsDir():
			return nil
		}
		files++
		if !strings.Contains(tests.String(), filepath.Base(file)) {
			t.Errorf("no test names %s", file)
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("%d files, %v", files, err)
	}
}

// waitFor waits until a condition holds that is costly to check.
func waitFor(t *testing.T, what string, cond func() bool) {
	t.Helper()
	asked := time.Time{}
	redistest.Until(t, within, what, func() bool {
		if time.Since(asked) < 200*time.Millisecond {
			return false
		}
		asked = time.Now()
		return cond()
	})
}
