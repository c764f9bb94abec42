package suggest_test

import (
	"testing"

	"github.com/wxcourier/wxcourier/internal/suggest"
)

func TestName(t *testing.T) {
	names := []string{"addrs", "db", "tls", "allow_eviction", "password_file"}
	for _, tt := range []struct {
		in, want string
		ok       bool
	}{
		{"adrs", "addrs", true},
		{"ADDRS", "addrs", true},
		{"allow-evictions", "allow_eviction", true},
		{"passwordfile", "password_file", true},
		{"zzzzzz", "", false},
		{"", "", false},
	} {
		got, ok := suggest.Name(tt.in, names)
		if got != tt.want || ok != tt.ok {
			t.Errorf("Name(%q) = %q, %v; want %q, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}
