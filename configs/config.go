package configs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/wxcourier/wxcourier/gateway"
	"github.com/wxcourier/wxcourier/gateway/webhook"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
	"github.com/wxcourier/wxcourier/worker"
)

// Config is the whole configuration.
type Config struct {
	Redis   Redis                `yaml:"redis"`
	WeChat  wechat.Config        `yaml:"wechat"`
	Pace    ratelimit.Config     `yaml:"pace"`
	Worker  worker.Config        `yaml:"worker"`
	Results worker.ResultsConfig `yaml:"results"`
	Gateway gateway.Config       `yaml:"gateway"`
	Apps    []App                `yaml:"apps"`
	// AppsDir is a folder with further apps, one file (*.yaml) each, whose content is one entry of
	// Apps. A relative path is relative to the folder of the configuration file. Default none.
	AppsDir string `yaml:"apps_dir"`
	// Providers are the service providers (第三方平台) whose authorizers are among the apps.
	Providers []Provider `yaml:"providers"`
	// Webhooks are the HTTP endpoints that get results.
	Webhooks []webhook.Endpoint `yaml:"webhooks"`
}

// Default returns the defaults: no Redis and no apps.
func Default() Config {
	return Config{
		WeChat:  wechat.DefaultConfig(),
		Pace:    ratelimit.DefaultConfig(),
		Worker:  worker.DefaultConfig(),
		Results: worker.DefaultResultsConfig(),
		Gateway: gateway.DefaultConfig(),
	}
}

// DefaultFile is the file that is read when no other is named and it exists.
const DefaultFile = "wxcourier.yaml"

// PathVariable is the environment variable with the path of the file.
const PathVariable = "WXCOURIER_CONFIG"

// Find returns the path of the file to read: the named one, else that of PathVariable, else
// DefaultFile when it exists in the working directory, else "", which means the defaults.
func Find(named string, environ []string) string {
	if named != "" {
		return named
	}
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, PathVariable+"="); ok && value != "" {
			return value
		}
	}
	if _, err := os.Stat(DefaultFile); err == nil {
		return DefaultFile
	}
	return ""
}

// Load reads the file at path (none for ""), then the files of apps_dir, then the environment in
// the form of os.Environ, then the secret files, and validates the result. The error is an *[Error]
// with all problems, or that of reading the file.
func Load(path string, environ []string) (Config, error) {
	cfg, _, err := Read(path, environ)
	return cfg, err
}

// Read is [Load]. It also returns the paths of the files and folders that the configuration
// consists of, also of those that it could not read, for a reader that watches them.
func Read(path string, environ []string) (cfg Config, paths []string, err error) {
	d := newDecoder()
	cfg, err = d.load(path, environ)
	return cfg, d.paths, err
}

func (d *decoder) load(path string, environ []string) (Config, error) {
	cfg := Default()
	if path != "" {
		text, err := d.readFile(path)
		if err != nil {
			return Config{}, fmt.Errorf("read the configuration: %w", err)
		}
		d.file(text, &cfg)
	}
	d.appsDir(path, environ, &cfg)
	d.environment(environ, &cfg)
	d.secretFiles(&cfg)
	d.inheritCallbacks(&cfg)
	d.check(cfg)
	if len(d.problems) > 0 {
		return Config{}, &Error{Path: path, Problems: d.sorted()}
	}
	return cfg, nil
}

// readFile reads a file of the configuration, and notes its path.
func (d *decoder) readFile(path string) ([]byte, error) {
	d.paths = append(d.paths, path)
	return os.ReadFile(path) //nolint:gosec // the operator names the file
}

// check validates all sections and the rules between them.
func (d *decoder) check(cfg Config) {
	d.section("redis", cfg.Redis.Validate())
	d.section("wechat", cfg.WeChat.Validate())
	d.section("pace", cfg.Pace.Validate())
	d.section("worker", cfg.Worker.Validate())
	d.section("results", cfg.Results.Validate())
	d.section("gateway", cfg.Gateway.Validate())
	if cfg.Worker.ShutdownTimeout <= cfg.WeChat.AttemptTimeout {
		d.problem("worker.shutdown_timeout", "%v must exceed wechat.attempt_timeout (%v), or a shutdown interrupts attempts",
			cfg.Worker.ShutdownTimeout, cfg.WeChat.AttemptTimeout)
	}
	d.checkApps(cfg.Apps)
	d.checkProviders(cfg)
	d.checkWebhooks(cfg.Webhooks)
}

// section records the faults of one section, each of the form "key: problem".
func (d *decoder) section(name string, err error) {
	for _, fault := range flatten(err) {
		key, problem, found := strings.Cut(fault.Error(), ": ")
		if !found {
			d.problem(name, "%s", fault)
			continue
		}
		d.problem(name+"."+key, "%s", problem)
	}
}

// flatten returns the parts of joined errors.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, flatten(e)...)
	}
	return all
}
