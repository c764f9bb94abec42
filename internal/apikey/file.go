package apikey

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/tasks"
)

// record is a line of the file. Its JSON names are the keys that a line may have.
type record struct {
	ID      string    `json:"id"`
	Hash    string    `json:"hash"`
	Apps    []string  `json:"apps,omitempty"`
	Scopes  []Scope   `json:"scopes"`
	Rate    float64   `json:"rate,omitempty"`
	MaxBody string    `json:"max_body,omitempty"`
	Paths   []string  `json:"paths,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
}

// hashPrefix names the hash, so that another one may come.
const hashPrefix = "sha256:"

// A Mistake is something that is wrong in a file of keys.
type Mistake struct {
	Line    int
	Message string // never a hash or a part of a key
}

// FileError has all mistakes of a file of keys.
type FileError struct {
	Path     string
	Mistakes []Mistake
}

// Error lists the mistakes, one a line.
func (e *FileError) Error() string {
	noun := "mistakes"
	if len(e.Mistakes) == 1 {
		noun = "mistake"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d %s", e.Path, len(e.Mistakes), noun)
	for _, m := range e.Mistakes {
		fmt.Fprintf(&b, "\n  line %d: %s", m.Line, m.Message)
	}
	return b.String()
}

// file is the content of a file of keys.
type file struct {
	keys  []*Key
	lines []int // of the keys
	// whole is the length of the text without a last line that was not written to its end,
	// because the writer was killed or is still at it.
	whole int
}

// maxFile is the maximum size of a file, in bytes: a wrong path must not fill the memory.
const maxFile = 16 << 20

// readText reads a file of keys.
func readText(name string) ([]byte, error) {
	if info, err := os.Stat(name); err == nil && info.Size() > maxFile {
		return nil, fmt.Errorf("%s has %d bytes: it is not a file of keys", name, info.Size())
	}
	return os.ReadFile(name) //nolint:gosec // the operator names the file
}

// readFile reads and parses a file of keys.
func readFile(name string) (*file, []byte, error) {
	text, err := readText(name)
	if err != nil {
		return nil, nil, err
	}
	f, err := parse(name, text)
	return f, text, err
}

// parse parses the text of a file. The error is a *FileError.
func parse(name string, text []byte) (*file, error) {
	f := &file{whole: len(text)}
	var mistakes []Mistake
	first := make(map[string]int) // the line of each id
	rest := text
	for n := 1; len(rest) > 0; n++ {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		start := len(text) - len(rest)
		rest = after
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if line = bytes.TrimSpace(line); len(line) == 0 || line[0] == '#' {
			continue
		}
		if !ended && line[0] == '{' && !json.Valid(line) {
			f.whole = start
			break
		}
		key, faults := parseLine(line)
		if key != nil && first[key.ID] > 0 {
			faults = append(faults, fmt.Sprintf("id: %q is the id of the key in line %d too", key.ID, first[key.ID]))
		}
		for _, fault := range faults {
			mistakes = append(mistakes, Mistake{n, fault})
		}
		if key != nil && len(faults) == 0 {
			first[key.ID] = n
			f.keys, f.lines = append(f.keys, key), append(f.lines, n)
		}
	}
	if len(mistakes) > 0 {
		return nil, &FileError{name, mistakes}
	}
	return f, nil
}

// parseLine parses a line, and returns all that is wrong with it.
func parseLine(line []byte) (*Key, []string) {
	doc, fault := strictjson.Parse(line, "", strictjson.Limits{Depth: 2, Values: 10_000})
	if fault != nil {
		return nil, []string{strings.TrimPrefix(fault.Path+": ", ": ") + fault.Problem}
	}
	if doc.Root().Kind() != strictjson.Object {
		return nil, []string{`not a key: a line is a JSON object, or a comment that begins with "#"`}
	}
	key := &Key{}
	var faults []string
	given := make(map[string]bool)
	fields := fields()
	for member := range doc.Root().Elements() {
		name := string(member.Key())
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		if at < 0 {
			faults = append(faults, unknownField(name))
			continue
		}
		given[name] = true
		if err := fields[at].set(key, member.Raw()); err != nil {
			faults = append(faults, name+": "+err.Error())
		}
	}
	for _, name := range []string{"id", "hash", "scopes"} {
		if !given[name] {
			faults = append(faults, name+": missing")
		}
	}
	key.complete()
	return key, faults
}

func unknownField(name string) string {
	var names []string
	for _, f := range fields() {
		names = append(names, f.name)
	}
	if best, ok := suggest.Name(name, names); ok {
		return fmt.Sprintf("%.40q: unknown; did you mean %q?", name, best)
	}
	return fmt.Sprintf("%.40q: unknown; a key has %s", name, strings.Join(names, ", "))
}

// field is a field of a line. Errors of set contain no hash.
type field struct {
	name string
	set  func(k *Key, value []byte) error
}

func fields() []field {
	return []field{
		{"id", func(k *Key, value []byte) error {
			if json.Unmarshal(value, &k.ID) != nil || !ValidID(k.ID) {
				return errors.New(`not an id: 1 to 64 of a-z, 0-9, "-" and ".", and not "local"`)
			}
			return nil
		}},
		{"hash", setHash},
		{"apps", func(k *Key, value []byte) error {
			if json.Unmarshal(value, &k.Apps) != nil {
				return errors.New("not a list of app ids")
			}
			if len(k.Apps) == 0 {
				return errors.New("an empty list; leave it out for all apps")
			}
			return CheckApps(k.Apps)
		}},
		{"scopes", func(k *Key, value []byte) error {
			var names []string
			if json.Unmarshal(value, &names) != nil || len(names) == 0 {
				return errors.New("not a list of scopes, such as " + `["enqueue","read"]`)
			}
			var err error
			k.Scopes, err = ParseScopes(names)
			return err
		}},
		{"rate", func(k *Key, value []byte) error {
			if json.Unmarshal(value, &k.Rate) != nil {
				return errors.New("not a number of requests per second")
			}
			return CheckRate(k.Rate)
		}},
		{"max_body", func(k *Key, value []byte) error {
			var text string
			if json.Unmarshal(value, &text) != nil {
				text = string(value)
			}
			var err error
			k.MaxBody, err = ParseSize(text)
			return err
		}},
		{"paths", func(k *Key, value []byte) error {
			if json.Unmarshal(value, &k.Paths) != nil {
				return errors.New("not a list of patterns of paths")
			}
			return CheckPaths(k.Paths)
		}},
		{"created", func(k *Key, value []byte) error { return setTime(&k.Created, value) }},
		{"expires", func(k *Key, value []byte) error { return setTime(&k.Expires, value) }},
	}
}

func setHash(k *Key, value []byte) error {
	var text string
	_ = json.Unmarshal(value, &text)
	digits, found := strings.CutPrefix(text, hashPrefix)
	sum, err := hex.DecodeString(digits)
	if !found || err != nil || len(sum) != sha256.Size {
		return errors.New(`not "sha256:" and 64 hexadecimal digits`)
	}
	k.hash = [sha256.Size]byte(sum)
	return nil
}

func setTime(t *time.Time, value []byte) error {
	if json.Unmarshal(value, t) != nil || t.IsZero() {
		return errors.New("not a time such as 2026-12-01T08:00:00+08:00")
	}
	return nil
}

// ParseScopes returns the scopes of these names, without repetitions.
func ParseScopes(names []string) ([]Scope, error) {
	var all []Scope
	known := texts(Scopes())
	for _, name := range names {
		if !slices.Contains(known, name) {
			if best, ok := suggest.Name(name, known); ok {
				return nil, fmt.Errorf("%.40q is not a scope; did you mean %s?", name, best)
			}
			return nil, fmt.Errorf("%.40q is not a scope; the scopes are %s", name, strings.Join(known, ", "))
		}
		if !slices.Contains(all, Scope(name)) {
			all = append(all, Scope(name))
		}
	}
	return all, nil
}

// CheckApps returns an error for the first that is not an app id.
func CheckApps(apps []string) error {
	for _, app := range apps {
		if !tasks.ValidApp(app) {
			return fmt.Errorf(`%.40q is not an app id: "wx" and 16 of the characters 0-9 and a-f`, app)
		}
	}
	return nil
}

// CheckPaths returns an error for the first that is not a pattern of paths.
func CheckPaths(patterns []string) error {
	for _, pattern := range patterns {
		if _, err := path.Match(pattern, ""); err != nil || !strings.HasPrefix(pattern, "/") {
			return fmt.Errorf("%.80q is not a pattern of paths such as /wxa/business/*", pattern)
		}
	}
	return nil
}

// maxRate is the maximum rate of a key, in requests per second.
const maxRate = 1e6

// CheckRate returns an error unless a rate is more than 0 and at most a million.
func CheckRate(r float64) error {
	if !(r > 0 && r <= maxRate) {
		return fmt.Errorf("%v is not a number of requests per second, more than 0 and at most a million", r)
	}
	return nil
}

// line returns the line of the key, with its end.
func (k *Key) line() []byte {
	r := record{
		ID: k.ID, Hash: hashPrefix + hex.EncodeToString(k.hash[:]), Apps: k.Apps, Scopes: k.Scopes, Rate: k.Rate,
		Paths: k.Paths, Created: k.Created, Expires: k.Expires,
	}
	if k.MaxBody > 0 {
		r.MaxBody = FormatSize(k.MaxBody)
	}
	text, _ := json.Marshal(r) // of strings, numbers and times: cannot fail
	return append(text, '\n')
}
