package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// keysEnv returns an environment with a file for the keys, which does not exist yet.
func keysEnv(t *testing.T) (env []string, path string) {
	t.Helper()
	t.Chdir(t.TempDir())
	path = filepath.Join(t.TempDir(), "keys")
	return []string{"WXCOURIER_GATEWAY_KEYS_FILE=" + path}, path
}

// TestKey makes, lists and revokes keys. The key is on standard output alone, and in no file; no hash
// is shown.
func TestKey(t *testing.T) {
	env, path := keysEnv(t)
	made := command(t, env, "", "key", "new", "--id", "orders")
	key := strings.TrimSuffix(made.stdout, "\n")
	if made.status != statusDone || !regexp.MustCompile(`^wxc_orders_[a-z2-7]{32}$`).MatchString(key) {
		t.Fatalf("%+v", made)
	}
	mentions(t, "the advice", made.stderr, path, "only this once", "Authorization: Bearer", "within 10 s")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	shop := command(t, env, "", "key", "new", "--id", "shop", "--app", testApp, "--scope", "call,read", "--rate", "2.5", "--max-body", "32MiB",
		"--path", "/wxa/business/*", "--expires", "90d")
	if shop.status != statusDone {
		t.Fatalf("%+v", shop)
	}
	mentions(t, "the advice", shop.stderr, "app "+testApp+" is not configured")
	text, err := os.ReadFile(path) //nolint:gosec // a file of the test
	if err != nil {
		t.Fatal(err)
	}
	listed, asJSON := command(t, env, "", "key", "list"), command(t, env, "", "key", "list", "--json")
	mentions(t, "key list", listed.stdout, "orders  enqueue,read  all", "shop    call,read     "+testApp, "2.5/s  32MiB     /wxa/business/*")
	var hash string
	for line := range strings.Lines(string(text)) {
		var written struct{ Hash string }
		if err := json.Unmarshal([]byte(line), &written); err != nil {
			t.Fatal(err)
		}
		hash = strings.TrimPrefix(written.Hash, "sha256:")
		for _, hidden := range []string{hash, key, key[len(key)-32:], strings.TrimSpace(shop.stdout)} {
			if strings.Contains(listed.stdout+asJSON.stdout+made.stderr+shop.stderr, hidden) {
				t.Errorf("%q is shown", hidden)
			}
		}
	}
	if strings.Contains(string(text), key[len(key)-32:]) {
		t.Error("the file contains the key")
	}
	var entry keyEntry
	if err := json.Unmarshal([]byte(strings.Split(asJSON.stdout, "\n")[1]), &entry); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(*entry.Expires); entry.ID != "shop" || entry.MaxBody != 32<<20 || entry.Expired || left < 89*24*time.Hour || left > 90*24*time.Hour {
		t.Errorf("%+v", entry)
	}

	if got := command(t, env, "", "key", "revoke", "orders"); got.status != statusDone || got.stdout != "" {
		t.Errorf("%+v", got)
	}
	if got := command(t, env, "", "key", "list", "--json"); strings.Contains(got.stdout, "orders") || !strings.Contains(got.stdout, "shop") {
		t.Errorf("%+v", got)
	}
	if again := command(t, env, "", "key", "new", "--id", "orders"); again.status != statusDone || again.stdout == made.stdout {
		t.Errorf("%+v", again)
	}
	if err := os.Chmod(path, 0o644); err != nil { //nolint:gosec // that is what is tested
		t.Fatal(err)
	}
	mentions(t, "key list of a file that others can read", command(t, env, "", "key", "list").stderr, "mode 0644", "chmod 600")
	wx, _ := newEnv(t)
	checked := command(t, append(append(wx, env...), "WXCOURIER_GATEWAY_TLS_CERT_FILE=/nowhere", "WXCOURIER_GATEWAY_TLS_KEY_FILE=/nowhere"), "", "check")
	mentions(t, "check", checked.stdout, "ok    gateway.keys_file: "+path+" with 2 keys", "warn  gateway.keys_file: other users", "warn  gateway.tls: the certificate /nowhere")
}

func TestKeyMistakes(t *testing.T) {
	env, path := keysEnv(t)
	if got := command(t, env, "", "key", "new", "--id", "taken"); got.status != statusDone {
		t.Fatalf("%+v", got)
	}
	for _, tt := range []struct {
		env    []string
		args   string
		status int
		want   []string
	}{
		{nil, "key new --id a", statusUsage, []string{"gateway.keys_file", "WXCOURIER_GATEWAY_KEYS_FILE", "/etc/wxcourier/keys"}},
		{nil, "key list", statusUsage, []string{"gateway.keys_file"}},
		{nil, "key revoke a", statusUsage, []string{"gateway.keys_file"}},
		{env, "key new", statusUsage, []string{"--id"}},
		{env, "key new --id taken", statusFailed, []string{"has a key taken already", "revoke"}},
		{env, "key new --id A_b", statusUsage, []string{"--id", `"A_b"`}},
		{env, "key new --id local", statusUsage, []string{"--id", "local"}},
		{env, "key new --id a --scope enqeue", statusUsage, []string{"--scope", "did you mean enqueue?"}},
		{env, "key new --id a --scope zzzzzzzzzz", statusUsage, []string{"the scopes are enqueue, read, operate, token, call"}},
		{env, "key new --id a --app wx1", statusUsage, []string{"--app", `"wx1"`, "16 of the characters"}},
		{env, "key new --id a --rate -1", statusUsage, []string{"--rate"}},
		{env, "key new --id a --max-body big", statusUsage, []string{"--max-body", "512KiB"}},
		{env, "key new --id a --scope call --path wxa", statusUsage, []string{"--path", "/wxa/business/*"}},
		{env, "key new --id a --path /wxa/*", statusUsage, []string{"--path", "--scope call"}},
		{env, "key new --id a --expires soon", statusUsage, []string{"--expires", "90d"}},
		{env, "key new --id a --expires 0d", statusUsage, []string{"--expires", "has passed"}},
		{env, "key new --id a --expires 2020-01-01T00:00:00Z", statusUsage, []string{"--expires", "has passed"}},
		{env, "key revoke taken none", statusFailed, []string{`no key "none"`, "nothing was revoked"}},
		{[]string{"WXCOURIER_GATEWAY_KEYS_FILE=/nowhere/keys"}, "key new --id a", statusFailed, []string{"the folder /nowhere does not exist"}},
		{[]string{"WXCOURIER_GATEWAY_KEYS_FILE=/nowhere/keys"}, "key list", statusFailed, []string{"does not exist", "key new"}},
	} {
		got := command(t, tt.env, "", strings.Fields(tt.args)...)
		if got.status != tt.status || got.stdout != "" {
			t.Errorf("%s: %+v", tt.args, got)
		}
		mentions(t, tt.args, got.stderr, tt.want...)
	}
	if err := os.WriteFile(path, []byte("{\"id\":\"a\"}\nx\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"key list", "key new --id b", "key revoke a"} {
		got := command(t, env, "", strings.Fields(args)...)
		if got.status != statusFailed {
			t.Errorf("%s: %+v", args, got)
		}
		mentions(t, args, got.stderr, "line 1: hash: missing", "line 1: scopes: missing", "line 2: ")
	}
}

// TestKeysAtOnce: no key is lost when many are made at once.
func TestKeysAtOnce(t *testing.T) {
	env, _ := keysEnv(t)
	var made sync.WaitGroup
	for i := range 10 {
		made.Go(func() {
			if got := command(t, env, "", "key", "new", "--id", fmt.Sprint("key-", i)); got.status != statusDone {
				t.Errorf("%+v", got)
			}
		})
	}
	made.Wait()
	if got := command(t, env, "", "key", "list", "--json"); strings.Count(got.stdout, "\n") != 10 {
		t.Errorf("%+v", got)
	}
}
