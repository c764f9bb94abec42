package check

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"

	"github.com/wxcourier/wxcourier/internal/subprocess"
)

// project is compose.yaml with all profiles, as Compose reads it: after its schema, interpolation
// and the rules between services.
func project(t *testing.T) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(deploy, "compose.yaml")},
		cli.WithProfiles([]string{"*"}), cli.WithInterpolation(true), cli.WithConsistency(true))
	if err != nil {
		t.Fatal(err)
	}
	p, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatalf("compose.yaml: %v", err)
	}
	return p
}

// TestCompose: what the services mount exists, or is a secret that docs/deploy.md has the user make.
func TestCompose(t *testing.T) {
	t.Parallel()
	p := project(t)
	pages := map[string]string{"docs/deploy.md": read(t, root, "docs/deploy.md"), "docs/zh-CN/deploy.md": read(t, root, "docs/zh-CN/deploy.md")}
	for page, text := range pages {
		for name, secret := range p.Secrets {
			if filepath.Base(secret.File) != name || !strings.Contains(text, "secrets/"+name) {
				t.Errorf("%s does not say how to make secrets/%s (%s)", page, name, secret.File)
			}
		}
		if !strings.Contains(text, "secrets/keys/keys") {
			t.Errorf("%s does not say how to make secrets/keys/keys", page)
		}
	}
	if !strings.Contains(read(t, root, ".dockerignore"), "\n/configs/deploy/secrets/*\n") || !strings.Contains(read(t, deploy, "secrets/.gitignore"), "\n*\n") {
		t.Error("the secrets get into the repository, or into the build of the image")
	}
	for _, s := range p.Services {
		for _, v := range s.Volumes {
			if v.Type != "bind" || filepath.Base(filepath.Dir(v.Source)) == "secrets" { // which the user makes, see above
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts %v", s.Name, err)
			}
		}
		if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
			t.Errorf("%s may gain privileges", s.Name)
		}
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s is published on %q", s.Name, port.HostIP)
			}
		}
	}
	if worker := p.Services["worker"]; worker.GetScale() != 2 {
		t.Errorf("%d workers, want 2", worker.GetScale())
	}
	for _, name := range []string{"prometheus", "grafana"} {
		if !slices.Equal(p.Services[name].Profiles, []string{"monitoring"}) {
			t.Errorf("%s starts without its profile", name)
		}
	}
}

// TestComposeRuns runs the commands of Redis, worker and gateway with their files, without
// containers.
func TestComposeRuns(t *testing.T) {
	t.Parallel()
	p := project(t)
	m := newMachine(t, "redis:6379", "127.0.0.1:"+freePort(t))
	m.put(t, "/run/secrets/redis-password", password)
	m.put(t, "/run/secrets/"+app, "the-secret")
	m.put(t, "/etc/wxcourier/wxcourier.yaml", read(t, deploy, "compose/wxcourier.yaml"))
	m.addKey(t, "/run/keys/keys")
	stop := runComposeRedis(t, m, p.Services["redis"])
	cfg := m.loadConfig(t, "/etc/wxcourier/wxcourier.yaml")
	for _, name := range []string{"worker", "gateway"} {
		s := p.Services[name]
		if grace := s.StopGracePeriod; grace == nil || cfg.Worker.ShutdownTimeout.Nanoseconds() >= int64(*grace) || cfg.Gateway.ShutdownTimeout.Nanoseconds() >= int64(*grace) {
			t.Errorf("%s: stop_grace_period is %v", name, grace)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
			t.Errorf("%s is not hardened", name)
		}
		test := s.HealthCheck.Test // CMD /wxcourier healthcheck [URL]
		if len(test) < 3 || test[0] != "CMD" || test[1] != "/wxcourier" || test[2] != "healthcheck" {
			t.Fatalf("%s: the healthcheck is %q", name, test)
		}
		health := "http://127.0.0.1:9090/readyz"
		if len(test) > 3 {
			health = test[3]
		}
		m.start(t, service{args: s.Command, healthURL: health})
	}
	stop()
}

// runComposeRedis runs the shell command of the service redis with the redis-server of this machine.
// stop ends it as Compose does, and checks what it left.
func runComposeRedis(t *testing.T, m machine, s types.ServiceConfig) (stop func()) {
	t.Helper()
	tool(t, "redis-server")
	_, port, _ := strings.Cut(m.ports["redis:6379"], ":")
	data := t.TempDir()
	if len(s.Command) != 3 || s.Command[0] != "sh" || s.Command[1] != "-c" {
		t.Fatalf("the command of redis is %q", s.Command)
	}
	// Compose passes one $ for two; its library leaves them as they are.
	script := strings.NewReplacer("docker-entrypoint.sh ", "", "$$", "$", "dir /data", "dir "+data+"\nbind 127.0.0.1\nport "+port).Replace(s.Command[2])
	p, err := subprocess.Start(t.Context(), subprocess.Command{Path: "/bin/sh", Args: []string{"-c", m.translate(script)}})
	if err != nil {
		t.Fatal(err)
	}
	stopLater(t, p)
	waitForPort(t, p, "127.0.0.1:"+port)

	client := tool(t, "redis-cli")
	check := strings.NewReplacer("$$", "$", "redis-cli ", client+" -p "+port+" ").Replace(m.translate(s.HealthCheck.Test[1]))
	waitFor(t, "a healthy redis", func() bool {
		_, err := run(t, nil, "/bin/sh", "-c", check)
		return err == nil
	})
	for setting, want := range map[string]string{"appendonly": "yes", "maxmemory-policy": "noeviction", "appendfsync": "everysec", "save": ""} {
		out, err := run(t, []string{"REDISCLI_AUTH=" + password}, client, "-p", port, "config", "get", setting)
		if err != nil || strings.TrimSpace(strings.TrimPrefix(out, setting)) != want {
			t.Errorf("redis has %q, %v; want %s", out, err, want)
		}
	}
	if out, err := run(t, nil, client, "-p", port, "get", "x"); err != nil || !strings.Contains(out, "NOAUTH") {
		t.Errorf("redis answers without a password: %s %v", out, err)
	}
	return func() {
		if err := p.Stop(); err != nil { // the shell has become Redis, so that SIGTERM reaches it
			t.Errorf("redis: %v\n%s", err, p.Output())
		}
		if files, err := filepath.Glob(filepath.Join(data, "appendonlydir", "*.aof")); err != nil || len(files) == 0 {
			t.Errorf("redis left no append-only file: %v", err)
		}
	}
}
