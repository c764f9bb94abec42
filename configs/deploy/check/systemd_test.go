package check

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var units = []string{"wxcourier-worker.service", "wxcourier-gateway.service"}

// installUnits copies the units and their drop-in into a folder, with the path of an existing
// program.
func installUnits(t *testing.T, program string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range append(units, "wxcourier-.service.d/secrets.conf") {
		text := read(t, deploy, "systemd", name)
		if !strings.HasSuffix(name, ".conf") && strings.Count(text, "ExecStart=/usr/local/bin/wxcourier ") != 1 {
			t.Errorf("%s does not start /usr/local/bin/wxcourier", name)
		}
		write(t, dir, name, strings.ReplaceAll(text, "/usr/local/bin/wxcourier ", program+" "))
	}
	return dir
}

// TestSystemdVerify: systemd-analyze exits 0 on an unknown key, and says so; its output must be
// empty.
func TestSystemdVerify(t *testing.T) {
	t.Parallel()
	analyze := tool(t, "systemd-analyze")
	verify := func(dir string) string {
		args := []string{"verify", "--man=no"}
		for _, name := range units {
			args = append(args, filepath.Join(dir, name))
		}
		out, err := run(t, nil, analyze, args...)
		if err != nil {
			out += err.Error()
		}
		return out
	}
	dir := installUnits(t, "/bin/true")
	if out := verify(dir); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	for _, name := range units {
		// 10 is no protection at all; below 2 counts as safe.
		out, err := run(t, nil, analyze, "security", "--offline=true", "--threshold=20", "--no-pager", filepath.Join(dir, name))
		if err != nil {
			t.Errorf("systemd-analyze security %s: %v\n%s", name, err, out)
		}
	}
	for _, name := range append(units, "wxcourier-.service.d/secrets.conf") {
		dir := installUnits(t, "/bin/true")
		write(t, dir, name, read(t, dir, name)+"\n[Service]\nProtectEverything=yes\n")
		if out := verify(dir); !strings.Contains(out, "ProtectEverything") {
			t.Errorf("a mistake in %s is not found: %q", name, out)
		}
	}
}

// TestSysusers: systemd-sysusers makes the user of the units.
func TestSysusers(t *testing.T) {
	t.Parallel()
	sysusers := tool(t, "systemd-sysusers")
	dir := t.TempDir()
	write(t, dir, "etc/passwd", "")
	write(t, dir, "etc/group", "")
	path, err := filepath.Abs(filepath.Join(deploy, "systemd/sysusers.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if os.Getuid() != 0 {
		t.Skip("skipped: only root may make users")
	}
	if out, err := run(t, nil, sysusers, "--root="+dir, path); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if made := read(t, dir, "etc/passwd"); !strings.HasPrefix(made, "wxcourier:") {
		t.Errorf("made %q", made)
	}
	for _, name := range units {
		if u := readUnit(t, name); u["User"][0] != "wxcourier" || u["Group"][0] != "wxcourier" {
			t.Errorf("%s runs as %v", name, u["User"])
		}
	}
}

// unit has the values of each key of a unit.
type unit map[string][]string

// readUnit reads a unit with its drop-in.
func readUnit(t *testing.T, name string) unit {
	t.Helper()
	u := make(unit)
	for line := range strings.Lines(read(t, deploy, "systemd", name) + read(t, deploy, "systemd/wxcourier-.service.d/secrets.conf")) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			u[key] = append(u[key], value)
		}
	}
	return u
}

// TestSystemdRuns runs the commands of the units with their configuration and credentials, without
// systemd.
func TestSystemdRuns(t *testing.T) {
	t.Parallel()
	m := newMachine(t, "127.0.0.1:6379", startRedis(t))
	m.put(t, "/etc/wxcourier/wxcourier.yaml", read(t, deploy, "systemd/wxcourier.yaml"))
	m.put(t, "/etc/wxcourier/secrets/redis-password", password)
	m.put(t, "/etc/wxcourier/secrets/"+app, "the-secret")
	m.addKey(t, "/etc/wxcourier/keys")
	cfg := m.loadConfig(t, "/etc/wxcourier/wxcourier.yaml")
	for name, health := range map[string]string{units[0]: "http://127.0.0.1:9090/readyz", units[1]: "http://127.0.0.1:8080/readyz"} {
		u := readUnit(t, name)
		credentials := "/run/credentials/" + name
		for _, credential := range u["LoadCredential"] {
			id, path, _ := strings.Cut(credential, ":")
			m.put(t, credentials+"/"+id, read(t, m.dir, path))
		}
		var env []string
		for _, entry := range u["Environment"] {
			env = append(env, strings.ReplaceAll(entry, "%d", credentials))
		}
		seconds, err := strconv.Atoi(u["TimeoutStopSec"][0])
		if limit := time.Duration(seconds) * time.Second; err != nil || limit <= cfg.Worker.ShutdownTimeout || limit <= cfg.Gateway.ShutdownTimeout {
			t.Errorf("%s: TimeoutStopSec=%v", name, limit)
		}
		// The credentials alone are enough: the unit cannot read the files of the configuration.
		for _, path := range []string{"/etc/wxcourier/secrets/redis-password", "/etc/wxcourier/secrets/" + app} {
			if err := os.Rename(m.dir+path, m.dir+path+".away"); err != nil {
				t.Fatal(err)
			}
		}
		m.start(t, service{args: strings.Fields(u["ExecStart"][0])[1:], env: env, healthURL: health})
		for _, path := range []string{"/etc/wxcourier/secrets/redis-password", "/etc/wxcourier/secrets/" + app} {
			if err := os.Rename(m.dir+path+".away", m.dir+path); err != nil {
				t.Fatal(err)
			}
		}
	}
}
