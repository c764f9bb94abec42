package configs

import (
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/worker"
)

// file writes a configuration and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "wxcourier.yaml")
	write(t, path, text)
	return path
}

const hidden = "do-not-print-me"

func TestMistakes(t *testing.T) {
	const app = "wx0123456789abcdef"
	for _, tt := range []struct {
		name, text string
		env        []string
		want       []string // the texts of the problems
	}{
		{
			name: "five at once",
			text: "redis:\n  adrs: [127.0.0.1:6379]\n  db: first\nwechat:\n  timeout: 10\nworker:\n  attempts: 0\napps:\n  - id: " + app + "\n    secret: " + hidden + "\n    token:\n      mode: stabel\n",
			want: []string{
				`line 2: redis.adrs: unknown key; did you mean "addrs"?`,
				`line 3: redis.db: "first" is not a whole number`,
				`line 5: wechat.timeout: "10" is not a duration; write a number with its unit, such as 500ms, 15s or 24h`,
				`line 7: worker.attempts: 0 is not between 1 and 100`,
				`line 12: apps[0].token.mode: "stabel" is not one of stable, classic, external and component`,
			},
		},
		{
			name: "a section that is no section",
			text: "redis: 127.0.0.1:6379\n",
			want: []string{"line 1: redis: expected keys and values, each on its own line"},
		},
		{
			name: "a list that is none",
			text: "redis:\n  addrs: 127.0.0.1:6379\n",
			want: []string{`line 2: redis.addrs: expected a list: ["a", "b"], or one "- " line per entry`},
		},
		{
			name: "an unknown section, with nothing near",
			text: "brokerage:\n  listen: :80\n",
			want: []string{"line 1: brokerage: unknown key; the keys are redis, wechat, pace, worker, results, gateway, apps, apps_dir, providers, webhooks"},
		},
		{
			name: "an address with a password",
			text: "redis:\n  addrs: [\"redis://:" + hidden + "@h:6379/0\"]\n",
			want: []string{"line 2: redis.addrs[0]: is not host:port, such as 127.0.0.1:6379; the password goes in redis.password"},
		},
		{
			name: "apps",
			text: "apps:\n  - secret: " + hidden + "\n  - id: WX12\n    secret: " + hidden + "\n  - id: " + app + "\n  - id: " + app + "\n    secret: " + hidden + "\n    token: {mode: external}\n  - id: wx1111111111111111\n    secret: " + hidden + "\n    token: {url: \"http://x\"}\n",
			want: []string{
				"line 2: apps[0].id: required: the app id, such as wx0123456789abcdef",
				`line 3: apps[1].id: "WX12" is not an app id: "wx" and 16 of the characters 0-9 and a-f`,
				"line 5: apps[2].secret: required: set secret, secret_file or $WXCOURIER_APPS_WX0123456789ABCDEF_SECRET",
				"line 6: apps[3].id: wx0123456789abcdef is configured twice; the first is apps[2]",
				"line 8: apps[3].token.url: required with the token mode external: the http(s) address of your token service",
				"line 11: apps[4].token.url: only the token mode external uses a url",
			},
		},
		{
			name: "reserve",
			text: "apps:\n  - {id: " + app + ", secret: x, reserve_urgent: 1.5}\n",
			want: []string{"line 2: apps[0].reserve_urgent: 1.5 is outside of 0 ≤ reserve_urgent < 1"},
		},
		{
			name: "limits",
			text: "apps:\n  - id: " + app + "\n    secret: x\n    limits:\n      scheme:generate: {per_secnd: 5}\n      send:template: {per_day: -1}\n",
			want: []string{
				`line 5: apps[0].limits.scheme:generate.per_secnd: unknown key; did you mean "per_second"?`,
				"line 6: apps[0].limits.send:template: per_day: ",
			},
		},
		{
			name: "limits of 0",
			text: "apps:\n  - id: " + app + "\n    secret: x\n    limits:\n      send:template: {per_day: 0, per_second: ~}\n      links:\n        per_minute: \"0\"\n        total: -0\n        concurrency: 1\n",
			env:  []string{"WXCOURIER_APPS_WX0123456789ABCDEF_LIMITS_SCHEME_GENERATE_PER_SECOND=0", "WXCOURIER_APPS_WX0123456789ABCDEF_LIMITS_QRCODE_TOTAL=000"},
			want: []string{
				"line 5: apps[0].limits.send:template.per_day: 0 is not a limit: leave the key out to keep the default, or write what WeChat grants; a limit cannot be lifted",
				"line 7: apps[0].limits.links.per_minute: 0 is not a limit",
				"line 8: apps[0].limits.links.total: 0 is not a limit",
				"$WXCOURIER_APPS_WX0123456789ABCDEF_LIMITS_QRCODE_TOTAL: apps[0].limits.qrcode.total: 0 is not a limit",
				"$WXCOURIER_APPS_WX0123456789ABCDEF_LIMITS_SCHEME_GENERATE_PER_SECOND: apps[0].limits.scheme:generate.per_second: 0 is not a limit",
			},
		},
		{
			name: "a limit of nothing",
			text: "apps:\n  - id: " + app + "\n    secret: x\n    limits:\n      schem:generate: {per_second: 5}\n",
			want: []string{"line 5: apps[0].limits.schem:generate: no such task type, path or group; the nearest is \"scheme:generate\""},
		},
		{
			name: "hours",
			text: "apps:\n  - id: " + app + "\n    secret: x\n    hours:\n      \"sned:*\": 08:00-22:00\n      send:custom: 8-22\n      \"*\": [08:00, 22:00]\n",
			env:  []string{"WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_CODE=22:00", "WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_SEN=08:00-22:00"},
			want: []string{
				`line 5: apps[0].hours.sned:*: no such task type; the nearest is "send:*"`,
				`line 6: apps[0].hours.send:custom: "8" is not a time of the day; write it with two digits each, like 08:00`,
				`line 7: apps[0].hours.*: expected a single value, not a list or a mapping`,
				`$WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_CODE: apps[0].hours.code:*: "22:00" is not a span of the day; write it like 08:00-22:00`,
				`$WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_SEN: no configuration key has this variable; did you mean $WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_SEND?`,
			},
		},
		{
			name: "not YAML, with a secret near by",
			text: "apps:\n  - secret: " + hidden + "\n    id: [\n",
			want: []string{"not valid YAML"},
		},
		{
			name: "a key twice",
			text: "redis:\n  db: 1\n  db: 2\n",
			want: []string{`mapping key "db" already defined`},
		},
		{
			name: "two documents",
			text: "redis:\n  db: 1\n---\nredis:\n  db: 2\n",
			want: []string{"line 4: a second YAML document: only one is allowed"},
		},
		{
			name: "timeouts that contradict each other",
			text: "wechat:\n  attempt_timeout: 30s\n",
			want: []string{"worker.shutdown_timeout: 25s must exceed wechat.attempt_timeout (30s), or a shutdown interrupts attempts"},
		},
		{
			name: "the environment",
			env: []string{
				"WXCOURIER_REDIS_ADRS=h:1", "WXCOURIER_WORKER_ATTEMPTS=many", "WXCOURIER_APPS_WX0123456789ABCDEF_SECRT=" + hidden,
				"WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=" + hidden, "WXCOURIER_APPS_WX0123456789ABCDEF=" + hidden,
			},
			want: []string{
				"$WXCOURIER_APPS_WX0123456789ABCDEF: write $WXCOURIER_APPS_<APPID>_SECRET, or another key of an app after its id",
				"$WXCOURIER_APPS_WX0123456789ABCDEF_SECRT: no configuration key has this variable; did you mean $WXCOURIER_APPS_WX0123456789ABCDEF_SECRET?",
				"$WXCOURIER_REDIS_ADRS: no configuration key has this variable; did you mean $WXCOURIER_REDIS_ADDRS?",
				`$WXCOURIER_WORKER_ATTEMPTS: worker.attempts: "many" is not a whole number`,
			},
		},
		{
			name: "an app id from the environment",
			env:  []string{"WXCOURIER_APPS_WX01_SECRET=" + hidden},
			want: []string{`$WXCOURIER_APPS_WX01_SECRET: apps[0].id: "wx01" is not an app id: "wx" and 16 of the characters 0-9 and a-f`},
		},
		{
			name: "secret files",
			text: "redis:\n  password: " + hidden + "\n  password_file: /nowhere/a\napps:\n  - id: " + app + "\n    secret_file: /nowhere/b\n",
			want: []string{
				"line 3: redis.password_file: set together with redis.password: remove one of the two",
				"line 6: apps[0].secret_file: cannot read the secret: open /nowhere/b: no such file or directory",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(file(t, tt.text), tt.env)
			var mistakes *Error
			if !errors.As(err, &mistakes) {
				t.Fatalf("error %v", err)
			}
			if len(mistakes.Problems) != len(tt.want) {
				t.Errorf("%d mistakes, want %d:\n%v", len(mistakes.Problems), len(tt.want), err)
			}
			for i, want := range tt.want[:min(len(tt.want), len(mistakes.Problems))] {
				if got := mistakes.Problems[i].String(); !strings.Contains(got, want) {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			}
			if strings.Contains(err.Error(), hidden) {
				t.Errorf("the error contains a secret:\n%v", err)
			}
		})
	}
}

func TestEnvironmentOverridesFile(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "from the file\r\n")
	path := file(t, "redis:\n  addrs: [a:1]\nwechat:\n  timeout: 7s\napps:\n  - id: wx0123456789abcdef\n    secret_file: /nowhere\n    limits:\n      links: {per_day: 5}\n    hours:\n      \"send:*\": 08:00-22:00\n      \"scheme:*\": 01:00-02:00\n")
	cfg, err := Load(path, []string{
		"PATH=/bin", "WXCOURIER_CONFIG=" + path, "WXCOURIER_WORKER_ATTEMPTS=",
		"WXCOURIER_REDIS_ADDRS=b:1, c:2", "WXCOURIER_REDIS_TLS=true", "WXCOURIER_REDIS_PASSWORD=p", "WXCOURIER_PACE_MARGIN=0.1",
		"WXCOURIER_WECHAT_BASE_URL=http://127.0.0.1:8090", "WXCOURIER_WORKER_MEDIA_HOSTS=img.example.com",
		"WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=from the environment",
		"WXCOURIER_APPS_WX0123456789ABCDEF_LIMITS_LINKS_PER_DAY=9", "WXCOURIER_APPS_WX0123456789ABCDEF_LIMITS_SCHEME_GENERATE_PER_SECOND=3",
		"WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_SEND=09:00-21:00", "WXCOURIER_APPS_WX0123456789ABCDEF_HOURS_SEND_CUSTOM=00:00-24:00",
		"WXCOURIER_APPS_WX1111111111111111_HOURS=07:00-23:00",
		"WXCOURIER_APPS_wx1111111111111111_SECRET_FILE=" + secret, "WXCOURIER_APPS_wx1111111111111111_TOKEN_MODE=classic",
		"WXCOURIER_APPS_WX1111111111111111_ONLY_OPENIDS=a,b",
		// Set by Kubernetes and Docker for services named wxcourier and wxcourier-redis.
		"WXCOURIER_SERVICE_HOST=10.0.0.1", "WXCOURIER_PORT=tcp://10.0.0.1:80", "WXCOURIER_PORT_80_TCP_ADDR=10.0.0.1",
		"WXCOURIER_REDIS_SERVICE_PORT_REDIS=6379", "WXCOURIER_REDIS_PORT_6379_TCP=tcp://10.0.0.2:6379",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Redis = Redis{Addrs: []string{"b:1", "c:2"}, TLS: true, Password: "p"}
	want.WeChat.Timeout = 7 * time.Second
	want.WeChat.BaseURL = "http://127.0.0.1:8090"
	want.Pace.Margin = 0.1
	want.Worker.MediaHosts = []string{"img.example.com"}
	want.Apps = []App{
		{
			ID: "wx0123456789abcdef", Secret: "from the environment", Limits: map[string]ratelimit.Limit{"links": {PerDay: 9}, "scheme:generate": {PerSecond: 3}},
			Hours: worker.Hours{"send:*": "09:00-21:00", "scheme:*": "01:00-02:00", "send:custom": "00:00-24:00"},
		},
		{
			ID: "wx1111111111111111", Secret: "from the file", SecretFile: secret, Token: Token{Mode: "classic"},
			Hours: worker.Hours{"*": "07:00-23:00"}, OnlyOpenIDs: []string{"a", "b"},
		},
	}
	if !reflect.DeepEqual(cfg, want) {
		t.Errorf("got\n%+v\nwant\n%+v", cfg, want)
	}
}

func TestInvalidSecretFiles(t *testing.T) {
	for name, text := range map[string]string{"empty": "\n", "two lines": "a\nb\n", "huge": strings.Repeat("x", maxSecret+1), "NUL": "a\x00"} {
		path := filepath.Join(t.TempDir(), "secret")
		write(t, path, text)
		if secret, err := readSecret(path); err == nil {
			t.Errorf("%s: accepted as a secret of %d bytes", name, len(secret))
		}
	}
}

func TestYAMLForms(t *testing.T) {
	cfg, err := Load(file(t, "redis:\n  password: 0123\n  addrs:\n    - &a 'h:1'\n    - *a\nwechat: ~\nworker:\n  attempts: \"9\"\napps:\n  - id: wx0123456789abcdef\n    secret: |\n      s\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Redis.Password.Reveal() != "0123" || !reflect.DeepEqual(cfg.Redis.Addrs, []string{"h:1", "h:1"}) || cfg.Apps[0].Secret.Reveal() != "s" || cfg.Worker.Attempts != 9 || cfg.WeChat.Timeout == 0 {
		t.Errorf("%+v, password %q", cfg, cfg.Redis.Password.Reveal())
	}
}

func TestEmptyFile(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "{}\n"} {
		if cfg, err := Load(file(t, text), nil); err != nil || !reflect.DeepEqual(cfg, Default()) {
			t.Errorf("%q: %+v, %v", text, cfg, err)
		}
	}
}

func TestFind(t *testing.T) {
	t.Chdir(t.TempDir())
	if got := Find("", nil); got != "" {
		t.Errorf("with nothing: %q", got)
	}
	write(t, DefaultFile, "")
	if got := Find("", []string{PathVariable + "="}); got != DefaultFile {
		t.Errorf("with a file here: %q", got)
	}
	if got := Find("", []string{PathVariable + "=/etc/w.yaml"}); got != "/etc/w.yaml" {
		t.Errorf("with the variable: %q", got)
	}
	if got := Find("mine.yaml", []string{PathVariable + "=/etc/w.yaml"}); got != "mine.yaml" {
		t.Errorf("with a name: %q", got)
	}
}

func TestNewClientType(t *testing.T) {
	for name, r := range map[string]Redis{
		"*redis.Client":        {Addrs: []string{"127.0.0.1:1"}, DB: 3},
		"*redis.ClusterClient": {Addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}},
	} {
		client := r.NewClient()
		if got := reflect.TypeOf(client).String(); got != name {
			t.Errorf("%+v makes a %s", r.Addrs, got)
		}
		_ = client.Close()
	}
}
