package loadtest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// Limits that no run reaches. Zero would not work: it means the documented limit.
const (
	unlimitedPerSecond = 100_000
	unlimitedPerMinute = 6_000_000
	unlimitedCount     = 1_000_000_000_000
)

// limitsFor returns limits of an app that lift the documented ones of a type, except for perSecond
// (0: none): the run measures this machine, and not WeChat's limits.
func limitsFor(typ string, perSecond, concurrency int) map[string]ratelimit.Limit {
	limits := make(map[string]ratelimit.Limit)
	for _, row := range ratelimit.Defaults() {
		if row.Name != typ && !slices.Contains(row.Members, typ) {
			continue
		}
		var l ratelimit.Limit
		if row.Limit.PerSecond > 0 {
			l.PerSecond = unlimitedPerSecond
		}
		if row.Limit.PerMinute > 0 {
			l.PerMinute = unlimitedPerMinute
		}
		if row.Limit.PerDay > 0 {
			l.PerDay = unlimitedCount
		}
		if row.Limit.Total > 0 {
			l.Total = unlimitedCount
		}
		if row.Name == typ {
			l.Concurrency = concurrency
			if perSecond > 0 {
				l.PerSecond = perSecond
			}
		}
		limits[row.Name] = l
	}
	return limits
}

// writeConfig writes the workers' configuration and returns its path. JSON is valid YAML. The file
// holds the password of Redis, so only this user may read it.
func (r *run) writeConfig(streamMax int) (path string, err error) {
	target := r.options.Target.Redis
	text, err := json.Marshal(map[string]any{
		"redis": map[string]any{
			"addrs": target.Addrs, "master_name": target.MasterName, "username": target.Username,
			"password": target.Password.Reveal(), "db": target.DB, "tls": target.TLS, "allow_eviction": target.AllowEviction,
		},
		"wechat":  map[string]any{"base_url": r.sandboxURL},
		"results": map[string]any{"stream_max_len": streamMax},
		"apps": []any{map[string]any{
			"id": r.app, "secret": "bench",
			"limits": limitsFor(r.options.Type, r.options.Limit, r.options.Concurrency),
		}},
	})
	if err != nil {
		return "", fmt.Errorf("write the workers' configuration: %w", err)
	}
	path = filepath.Join(r.dir, "worker.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return "", fmt.Errorf("write the workers' configuration: %w", err)
	}
	return path, nil
}

// variablePrefix is the prefix of all environment variables of wxcourier.
const variablePrefix = "WXCOURIER_"

// childEnv returns environ without the variables of wxcourier, so that children do not get real apps
// and secrets.
func childEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, variablePrefix)
	})
}
