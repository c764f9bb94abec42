package wechat

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	tests := []struct {
		name string
		cfg  Config
		want []string
	}{
		{"all wrong at once", Config{}, []string{"base_url:", "timeout:", "attempt_timeout:"}},
		{"attempt_timeout too short", Config{"https://api2.weixin.qq.com/", 10 * time.Second, time.Second}, []string{"attempt_timeout: 1s is shorter than timeout (10s)"}},
		{"a path", Config{"https://api.weixin.qq.com/cgi-bin", time.Second, time.Second}, []string{"base_url:"}},
		{"a user", Config{"https://me:hunter2@api.weixin.qq.com", time.Second, time.Second}, []string{"base_url:"}},
		{"no scheme", Config{"api.weixin.qq.com", time.Second, time.Second}, []string{"base_url:"}},
		{"not a URL", Config{"https://h\x7f/?secret=hunter2", time.Second, time.Second}, []string{"base_url:"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.cfg.Validate()
			if err == nil {
				t.Fatal("no error")
			}
			if n := strings.Count(err.Error(), "\n") + 1; n != len(tt.want) {
				t.Errorf("%d mistakes, want %d: %v", n, len(tt.want), err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a password is in: %v", err)
			}
		})
	}
}

func TestSecretPrintsNothing(t *testing.T) {
	s := Secret("hunter2hunter2")
	value := struct {
		S Secret
		P *Secret
	}{s, &s}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "value", value)
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{log.String(), string(asJSON), s.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		all = append(all, fmt.Sprintf(verb, s), fmt.Sprintf(verb, struct{ S Secret }{s}), fmt.Sprintf(verb, []Secret{s}))
	}
	for _, out := range all {
		if strings.Contains(out, "hunter2") || strings.Contains(out, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("the secret is in %s", out)
		}
	}
	if s.Reveal() != "hunter2hunter2" || Secret("").String() != "" {
		t.Error("Reveal or the empty secret is wrong")
	}
}
