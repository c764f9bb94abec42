package apikey

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// add makes a key in a file.
func add(t *testing.T, path string, k Key) string {
	t.Helper()
	if len(k.Scopes) == 0 {
		k.Scopes = []Scope{Enqueue}
	}
	key, err := Add(path, k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestSetFollowsItsFile: changes count within 10 s; a revoked key, or one that was made anew under
// its id, ends what depends on it; a file that vanished or has mistakes changes nothing, and is
// logged once.
func TestSetFollowsItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	orders, ops := add(t, path, Key{ID: "orders", Rate: 1}), add(t, path, Key{ID: "ops"})
	synctest.Test(t, func(t *testing.T) {
		logged := &e2e.Output{}
		s := NewSet(path, slog.New(slog.NewTextHandler(logged, nil)))
		if err := s.Load(); err != nil {
			t.Fatal(err)
		}
		go s.Run(t.Context())
		var changes atomic.Int32
		defer s.OnChange(func() { changes.Add(1) })()
		wait := func() { time.Sleep(10 * time.Second); synctest.Wait() }
		old, err := s.Authenticate(orders)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := old.Admit(); !ok {
			t.Error("the first request exceeds the rate")
		}

		if err := Revoke(path, []string{"ops"}); err != nil {
			t.Fatal(err)
		}
		wait()
		if _, err := s.Authenticate(ops); err == nil || changes.Load() != 1 {
			t.Errorf("the revoked key is valid; %d changes", changes.Load())
		}
		if _, ok := s.Get("ops"); ok {
			t.Error("the revoked key is there")
		}
		if k, ok := s.Get("orders"); !ok || k.Fingerprint != old.Fingerprint {
			t.Error("the other key changed")
		} else if k.limiter != old.limiter {
			t.Error("reading the file again granted requests")
		}

		valid, err := os.ReadFile(path) //nolint:gosec // a file of the test
		if err != nil {
			t.Fatal(err)
		}
		for _, broken := range []func() error{
			func() error { return os.WriteFile(path, append(valid, "{}\nx\n"...), 0o600) }, //nolint:gosec // a file of the test
			func() error { return os.Remove(path) },
		} {
			logged.Reset()
			if err := broken(); err != nil {
				t.Fatal(err)
			}
			wait()
			wait()
			if _, err := s.Authenticate(orders); err != nil {
				t.Error("the key is lost")
			}
			if n := strings.Count(logged.String(), "the keys stay as they were"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, logged)
			}
		}

		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		anew := add(t, path, Key{ID: "orders", Rate: 1})
		wait()
		if _, err := s.Authenticate(orders); err == nil {
			t.Error("the replaced key is valid")
		}
		if k, err := s.Authenticate(anew); err != nil || k.Fingerprint == old.Fingerprint || changes.Load() != 2 {
			t.Errorf("%v, %d changes", err, changes.Load())
		}
	})
}

func TestAuthenticate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	key := add(t, path, Key{ID: "shop.orders-1"})
	expired := add(t, path, Key{ID: "expired", Expires: time.Now().Add(-time.Second)})
	s := NewSet(path, discard())
	if _, err := s.Authenticate(key); err == nil {
		t.Error("a key is valid before the file is read")
	}
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	if k, err := s.Authenticate(key); err != nil || k.ID != "shop.orders-1" {
		t.Errorf("%+v, %v", k, err)
	}
	if _, ok := s.Get("expired"); ok {
		t.Error("the expired key is there")
	}
	for _, wrong := range []string{
		"", "wxc_", "wxc__", "wxc_shop.orders-1_", key + "a", key[:len(key)-1], strings.ToUpper(key), " " + key, expired,
		strings.Replace(key, "shop.orders-1", "expired", 1), strings.Replace(key, "shop.orders-1", "other", 1), "wxc_local_x", "local",
	} {
		if k, err := s.Authenticate(wrong); err == nil {
			t.Errorf("%q is %+v", wrong, k)
		}
	}
}

// TestOpenSet: without a file everybody has the key of Local.
func TestOpenSet(t *testing.T) {
	s := NewSet("", discard())
	if err := s.Load(); err != nil {
		t.Fatal(err)
	}
	k, err := s.Authenticate("anything")
	if err != nil || !k.Allows(Operate) || !k.AllowsApp("wx0123456789abcdef") || k.ID != "local" {
		t.Errorf("%+v, %v", k, err)
	}
	if again, ok := s.Get("local"); !ok || again.Fingerprint != k.Fingerprint {
		t.Error("its key is not there")
	}
}

// TestFingerprint: it follows the key and its permissions, but not the rate.
func TestFingerprint(t *testing.T) {
	seen := make(map[string]Key)
	for _, k := range []Key{
		{ID: "a", Scopes: []Scope{Read}},
		{ID: "b", Scopes: []Scope{Read}},
		{ID: "a", Scopes: []Scope{Read}, hash: [32]byte{1}},
		{ID: "a", Scopes: []Scope{Call}},
		{ID: "a", Scopes: []Scope{Read}, Apps: []string{"wx0123456789abcdef"}},
		{ID: "a", Scopes: []Scope{Read}, Paths: []string{"/wxa/*"}},
		{ID: "a", Scopes: []Scope{Read}, Expires: time.Unix(1, 0)},
	} {
		k.complete()
		if other, twice := seen[k.Fingerprint]; twice {
			t.Errorf("%+v and %+v are the same", k, other)
		}
		seen[k.Fingerprint] = k
		same := k
		same.Rate, same.MaxBody = 5, 7
		if same.complete(); same.Fingerprint != k.Fingerprint {
			t.Error("a rate changes the fingerprint")
		}
	}
}

func TestAdmit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &Key{Rate: 2}
		k.complete()
		for range 2 {
			if _, ok := k.Admit(); !ok {
				t.Error("a request within the rate was refused")
			}
		}
		after, ok := k.Admit()
		if ok || after != 500*time.Millisecond {
			t.Errorf("%v, %v", after, ok)
		}
		time.Sleep(after)
		if _, ok := k.Admit(); !ok {
			t.Error("refused after the wait")
		}
	})
}

// TestAddAtOnce: keys that are made at once, while others are revoked, are all kept.
func TestAddAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("# a comment\n"), 0o640); err != nil { //nolint:gosec // the mode is kept
		t.Fatal(err)
	}
	var made sync.WaitGroup
	for i := range 8 {
		made.Go(func() {
			id, temporary := fmt.Sprint("kept-", i), fmt.Sprint("revoked-", i)
			for _, id := range []string{id, temporary} {
				if _, err := Add(path, Key{ID: id, Scopes: []Scope{Read}}); err != nil {
					t.Error(err)
				}
			}
			if err := Revoke(path, []string{temporary}); err != nil {
				t.Error(err)
			}
		})
	}
	made.Wait()
	keys, err := List(path)
	if err != nil || len(keys) != 8 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	text, _ := os.ReadFile(path) //nolint:gosec // a file of the test
	if !strings.HasPrefix(string(text), "# a comment\n") {
		t.Errorf("the comment is lost:\n%s", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAddRepairs: a half-written last line is removed; an end of line that is missing is added.
func TestAddRepairs(t *testing.T) {
	for _, end := range []string{`{"id":"half","ha`, strings.TrimSuffix(strings.Replace(constantText(), "orders", "half", 1), "\n")} {
		path := writeFile(t, constantText()+end)
		if strings.Contains(end, "ops") {
			path = writeFile(t, end)
		}
		key := add(t, path, Key{ID: "new"})
		s := NewSet(path, discard())
		if err := s.Load(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Authenticate(key); err != nil || s.Len() != 3 {
			t.Errorf("%v, %d keys", err, s.Len())
		}
		text, _ := os.ReadFile(path) //nolint:gosec // a file of the test
		if strings.Contains(string(text), key[4:]) || strings.Contains(string(text), key[len(key)-16:]) {
			t.Error("the file contains the key")
		}
	}
}

func TestEditErrors(t *testing.T) {
	path := writeFile(t, constantText())
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Add(path, Key{ID: "ops", Scopes: []Scope{Read}}); err == nil || !strings.Contains(err.Error(), "has a key ops already") {
		t.Error(err)
	}
	if err := Revoke(path, []string{"ops", "nobody"}); err == nil || !strings.Contains(err.Error(), `no key "nobody"; nothing was revoked`) {
		t.Error(err)
	}
	if err := Revoke(link, []string{"ops"}); err != nil {
		t.Error(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Error("the link was replaced")
	}
	if keys, err := List(path); err != nil || len(keys) != 1 {
		t.Errorf("%d keys, %v", len(keys), err)
	}
	for _, err := range []error{Revoke(path+"x", []string{"a"}), NewSet(path+"x", discard()).Load()} {
		if err == nil || !strings.Contains(err.Error(), "does not exist; `wxcourier key new") {
			t.Error(err)
		}
	}
	bad := writeFile(t, "x\n")
	if _, err := Add(bad, Key{ID: "a", Scopes: []Scope{Read}}); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Error(err)
	}
}

func TestRedact(t *testing.T) {
	if got := Redact("/wechat/cgi-bin/" + constantKey + "/x wxc_"); got != "/wechat/cgi-bin/wxc_REDACTED/x wxc_" {
		t.Error(got)
	}
}
