package ratelimit

import (
	"bytes"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaults(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Defaults() {
		if seen[r.Name] {
			t.Errorf("%s: twice", r.Name)
		}
		seen[r.Name] = true
		if !strings.HasPrefix(r.Source, "https://developers.weixin.qq.com/") {
			t.Errorf("%s: source %q", r.Name, r.Source)
		}
		if err := r.Limit.Validate(); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
	for _, r := range Defaults() {
		for _, m := range r.Members {
			if !seen[m] {
				t.Errorf("%s: no row for its member %s", r.Name, m)
			}
		}
	}
}

func TestValidateLimits(t *testing.T) {
	for _, tt := range []struct {
		name      string
		overrides map[string]Limit
		want      []string // one substring per line of the error
	}{
		{"none", nil, nil},
		{"right", map[string]Limit{"links": {PerDay: 1}, "send:custom": {Concurrency: 8}}, nil},
		{"misspelt", map[string]Limit{"send:subscibe": {PerDay: 1}}, []string{`"send:subscibe": no such task type, path or group; the nearest is "send:subscribe"`}},
		{"group misspelt", map[string]Limit{"link": {}}, []string{`the nearest is "links"`}},
		{
			"all at once",
			map[string]Limit{"links": {PerDay: -1, PerSecond: 1e9}, "qr": {Total: -5}},
			[]string{`"links": per_second: 1000000000 is more than`, `"links": per_day: -1 is negative`, `"qr": no such`, `"qr": total: -5`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := ValidateLimits(tt.overrides)
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				return
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(tt.want) {
				t.Fatalf("got %d lines:\n%v", len(lines), err)
			}
			for i, part := range tt.want {
				if !strings.Contains(lines[i], part) {
					t.Errorf("line %d: %q lacks %q", i, lines[i], part)
				}
			}
		})
	}
}

func TestConfig(t *testing.T) {
	for margin, ok := range map[float64]bool{0: true, 0.05: true, 0.499: true, 0.5: false, -0.01: false, 2: false} {
		if err := (Config{Margin: margin}).Validate(); (err == nil) != ok {
			t.Errorf("%v: %v", margin, err)
		}
	}
	if (Config{Margin: math.NaN()}).Validate() == nil {
		t.Error("NaN is accepted")
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}

func TestWindowsOfTypes(t *testing.T) {
	l := overriding(nil, map[string]Limit{
		"scheme:generate": {PerSecond: 50, PerDay: 7, Concurrency: 8},
		"qrcode":          {Concurrency: 2, Total: 300_000},
		"new:type":        {PerMinute: 3},
	})
	for _, tt := range []struct {
		app, typ    string
		want        []Window
		concurrency int
	}{
		{testApp, "scheme:generate", []Window{
			{"scheme:generate", PerSecond, 50},
			{"scheme:generate", PerDay, 7},
			{"links", PerDay, 500_000},
		}, 8},
		{testApp, "scheme:urllink", []Window{{"scheme:urllink", PerSecond, 100}, {"links", PerDay, 500_000}}, 64},
		{testApp, "code:qrcode", []Window{{"qrcode", Total, 300_000}}, 2},
		{testApp, "send:bizsubscribe", nil, 64},
		{testApp, "new:type", []Window{{"new:type", PerMinute, 3}}, 64},
		{"wx1111111111111111", "scheme:generate", []Window{{"scheme:generate", PerSecond, 100}, {"links", PerDay, 500_000}}, 64},
		{"wx1111111111111111", "seccheck:image", []Window{{"seccheck:image", PerMinute, 2000}, {"seccheck:image", PerDay, 200_000}}, 64},
	} {
		if got := l.Windows(tt.app, tt.typ); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s of %s: got %v", tt.typ, tt.app, got)
		}
		if got := l.Concurrency(tt.app, tt.typ); got != tt.concurrency {
			t.Errorf("%s of %s: concurrency %d", tt.typ, tt.app, got)
		}
	}
}

func TestArithmetic(t *testing.T) {
	for _, tt := range []struct {
		limit   Limit
		margin  float64
		spacing time.Duration
		minute  int64
		late    time.Duration
	}{
		{Limit{}, 0.05, 0, 0, 500 * time.Millisecond},
		{Limit{PerSecond: 100}, 0, 10 * time.Millisecond, 0, 5 * time.Millisecond},
		{Limit{PerSecond: 100}, 0.05, 10527 * time.Microsecond, 0, 26315789 * time.Nanosecond},
		{Limit{PerSecond: 1}, 0.05, 1052632 * time.Microsecond, 0, 26315789 * time.Nanosecond},
		{Limit{PerSecond: 3}, 0, 333334 * time.Microsecond, 0, 5 * time.Millisecond},
		{Limit{PerMinute: 4000}, 0.05, 0, 3800, 100 * time.Millisecond},
		{Limit{PerMinute: 100}, 0.05, 0, 95, 100 * time.Millisecond},
		{Limit{PerMinute: 1}, 0.4, 0, 1, 100 * time.Millisecond},
		{Limit{PerMinute: 60, PerSecond: 5}, 0.4, 333334 * time.Microsecond, 36, 100 * time.Millisecond},
	} {
		if got := spacing(tt.limit.PerSecond, tt.margin); got != tt.spacing {
			t.Errorf("%+v at %v: spacing %v", tt.limit, tt.margin, got)
		}
		if got := allowance(tt.limit.PerMinute, tt.margin); got != tt.minute {
			t.Errorf("%+v at %v: allowance %v", tt.limit, tt.margin, got)
		}
		if got := lateness(tt.limit.PerSecond > 0, tt.limit.PerMinute > 0, tt.margin); (got - tt.late).Abs() > time.Nanosecond {
			t.Errorf("%+v at %v: lateness %v", tt.limit, tt.margin, got)
		}
	}
	if midnightSkew <= horizon+unpacedLateness {
		t.Error("a permit granted before the edge of midnight could be used after it")
	}
}

func TestReadmeHasTheTable(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := WriteLimitTable(&table); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, table.Bytes()) {
		t.Errorf("README.md lacks this table:\n%s", &table)
	}
}
