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

// Beyond any rate: an override of zero would leave the documented limit.
const (
	unlimitedPerSecond = 100_000
	unlimitedPerMinute = 6_000_000
	unlimitedCount     = 1_000_000_000_000
)

// limitsFor replaces the documented limits of a type by the chosen one: what is measured
// is this machine, and not what WeChat grants.
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

// writeConfig writes a worker's configuration, which JSON is, too. It holds the password of
// Redis, and so is for this user alone.
func (r *run) writeConfig(streamMax int) (path string, err error) {
	place := r.options.Target.Redis
	text, err := json.Marshal(map[string]any{
		"redis": map[string]any{
			"addrs": place.Addrs, "master_name": place.MasterName, "username": place.Username,
			"password": place.Password.Reveal(), "db": place.DB, "tls": place.TLS, "allow_eviction": place.AllowEviction,
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

// variablePrefix begins the names of all variables that configure wxcourier.
const variablePrefix = "WXCOURIER_"

// childEnv is our environment without what configures wxcourier: a child must not learn
// of real apps and their secrets.
func childEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		return strings.HasPrefix(entry, variablePrefix)
	})
}
