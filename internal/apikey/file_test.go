package apikey

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// constantFile is a file in the format that must not change, and constantKey the first key in it.
const (
	constantKey  = "wxc_orders_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	constantFile = `# keys of the shop

{"id":"orders","hash":"sha256:HASH","apps":["wx0123456789abcdef"],"scopes":["enqueue","read"],"rate":2.5,"max_body":"16MiB","paths":["/wxa/business/*"],"created":"2026-11-21T08:00:00Z","expires":"2126-12-01T08:00:00+08:00"}
{"id":"ops","hash":"sha256:0000000000000000000000000000000000000000000000000000000000000000","scopes":["operate"]}
`
	constantHash = "dbcecf9e8b186ba14eaa7ccf6c641a738d3e24680973e0f82151f28bc34140df"
)

func constantText() string { return strings.Replace(constantFile, "HASH", constantHash, 1) }

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestFormat reads a file as it was first written, and writes its lines as they were.
func TestFormat(t *testing.T) {
	f, err := parse("keys", []byte(constantText()))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.keys) != 2 || !slices.Equal(f.lines, []int{3, 4}) {
		t.Fatalf("%d keys in lines %v", len(f.keys), f.lines)
	}
	k := f.keys[0]
	expires := time.Date(2126, 12, 1, 0, 0, 0, 0, time.UTC)
	if k.ID != "orders" || !k.AllowsApp("wx0123456789abcdef") || k.AllowsApp("wx0000000000000000") || !k.Allows(Enqueue) || !k.Allows(Read) ||
		k.Allows(Operate) || k.Rate != 2.5 || k.MaxBody != 16<<20 || !slices.Equal(k.Paths, []string{"/wxa/business/*"}) || !k.Expires.Equal(expires) {
		t.Errorf("%+v", k)
	}
	lines := strings.SplitAfter(constantText(), "\n")
	for i, k := range f.keys {
		if got := string(k.line()); got != lines[f.lines[i]-1] {
			t.Errorf("written as %s", got)
		}
	}
	if !f.keys[1].AllowsApp("wx0000000000000000") {
		t.Error("a key without apps may not use all")
	}
	s := NewSet(writeFile(t, constantText()), nil)
	s.log = discard()
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Authenticate(constantKey); err != nil || k.ID != "orders" {
		t.Errorf("%v, %v", k, err)
	}
}

// TestMistakes: a file is read strictly, all mistakes are reported with their lines, and none
// contains a hash.
func TestMistakes(t *testing.T) {
	const hash = `"hash":"sha256:` + constantHash + `"`
	for _, tt := range []struct{ line, want string }{
		{`{"id":"a",` + hash + `,"scopes":["read"]`, "line 2: not valid JSON"},
		{`{"id":"a",` + hash + `,"scopes":["reed"]}`, `line 2: scopes: "reed" is not a scope; did you mean read?`},
		{`{"id":"a",` + hash + `,"scopes":["zzzzzzzz"]}`, `the scopes are enqueue, read, operate, token, call`},
		{`{"id":"a",` + hash + `,"scopes":[]}`, "scopes: not a list"},
		{`{"id":"a",` + hash + `}`, "scopes: missing"},
		{`{"id":"A",` + hash + `,"scopes":["read"]}`, "id: not an id"},
		{`{"id":"local",` + hash + `,"scopes":["read"]}`, "id: not an id"},
		{`{"id":"a","hash":"` + constantHash + `","scopes":["read"]}`, `hash: not "sha256:"`},
		{`{"id":"a","hash":"sha256:abc` + constantHash + `","scopes":["read"]}`, `hash: not "sha256:"`},
		{`{"id":"a","hsh":"` + constantHash + `","scopes":["read"]}`, `did you mean "hash"?`},
		{`{"id":"a",` + hash + `,` + hash + `,"scopes":["read"]}`, "hash"},
		{`{"id":"a",` + hash + `,"scopes":["read"],"apps":["wx1"]}`, `apps: "wx1" is not an app id`},
		{`{"id":"a",` + hash + `,"scopes":["read"],"apps":[]}`, "apps: an empty list"},
		{`{"id":"a",` + hash + `,"scopes":["read"],"rate":0}`, "rate: 0 is not a number of requests"},
		{`{"id":"a",` + hash + `,"scopes":["read"],"rate":"5"}`, "rate: not a number"},
		{`{"id":"a",` + hash + `,"scopes":["read"],"max_body":"big"}`, `max_body: "big" is not a size`},
		{`{"id":"a",` + hash + `,"scopes":["read"],"paths":["wxa"]}`, `paths: "wxa" is not a pattern`},
		{`{"id":"a",` + hash + `,"scopes":["read"],"paths":["/wxa/["]}`, `paths: "/wxa/[" is not a pattern`},
		{`{"id":"a",` + hash + `,"scopes":["read"],"expires":"tomorrow"}`, "expires: not a time"},
		{`{"id":"first",` + hash + `,"scopes":["read"]}`, `id: "first" is the id of the key in line 1 too`},
		{`orders`, "line 2: "},
		{`["read"]`, "line 2: not a key"},
	} {
		text := `{"id":"first",` + hash + `,"scopes":["read"]}` + "\n" + tt.line + "\n{}\n"
		_, err := parse("keys", []byte(text))
		var mistakes *FileError
		if !errors.As(err, &mistakes) {
			t.Errorf("%s\n%v", tt.line, err)
			continue
		}
		if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "line 3: id: missing") || mistakes.Mistakes[0].Line != 2 {
			t.Errorf("%s\n%v\nwant %s", tt.line, err, tt.want)
		}
		if strings.Contains(err.Error(), constantHash[:16]) {
			t.Errorf("%s\n%v contains the hash", tt.line, err)
		}
	}
}

// TestPartOfLine: a last line that was not written to its end is no mistake.
func TestPartOfLine(t *testing.T) {
	text := constantText()
	lines := strings.SplitAfter(text, "\n")
	begin := len(text) - len(lines[3])
	for end := begin; end < len(text)-1; end++ {
		f, err := parse("keys", []byte(text[:end]))
		if err != nil || len(f.keys) != 1 || f.whole != begin {
			t.Fatalf("%q: %+v, %v", text[begin:end], f, err)
		}
	}
	if f, err := parse("keys", []byte(text[:len(text)-1])); err != nil || len(f.keys) != 2 {
		t.Errorf("without the last line end: %+v, %v", f, err)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "4096": 4096, "512KiB": 512 << 10, "16MiB": 16 << 20, "16MB": 16e6, "2GiB": 2 << 30, "7B": 7} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
		if again, err := ParseSize(FormatSize(got)); err != nil || again != got {
			t.Errorf("%s: written as %s", text, FormatSize(got))
		}
	}
	for _, text := range []string{"", "0", "-1", "1TiB", "MiB", "99999999999GiB", "1.5MiB"} {
		if n, err := ParseSize(text); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(constantText()))
	f.Add([]byte(`{"id":"a","scopes":["read"],"rate":1e400}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parse("keys", text)
		if err != nil {
			if strings.Contains(err.Error(), constantHash) {
				t.Errorf("%v contains a hash", err)
			}
			return
		}
		for _, k := range keys.keys {
			again, err := parse("keys", k.line())
			if err != nil || len(again.keys) != 1 || again.keys[0].Fingerprint != k.Fingerprint {
				t.Errorf("%s: %v", k.line(), err)
			}
		}
	})
}
