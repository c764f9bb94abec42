package redisinfo_test

import (
	"maps"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redisinfo"
)

func TestSince(t *testing.T) {
	before, after := redisinfo.Info{"a": "3", "b": "x"}, redisinfo.Info{"a": "10", "b": "7", "c": "1"}
	for field, want := range map[string]int64{"a": 7, "b": -1, "c": -1, "d": -1} { // -1: unknown
		n, ok := after.Since(before, field)
		if !ok {
			n = -1
		}
		if n != want {
			t.Errorf("%s has grown by %d, want %d", field, n, want)
		}
	}
}

func TestCPU(t *testing.T) {
	if d, ok := (redisinfo.Info{"used_cpu_user": "1.25", "used_cpu_sys": "0.5"}).CPU(); !ok || d != 1750*time.Millisecond {
		t.Errorf("%v, %v", d, ok)
	}
	if d, ok := (redisinfo.Info{"used_cpu_user": "1.25"}).CPU(); ok {
		t.Errorf("%v without the system time", d)
	}
}

func TestCalls(t *testing.T) {
	info := redisinfo.Info{
		"cmdstat_evalsha":    "calls=12,usec=340,usec_per_call=28.33,rejected_calls=0,failed_calls=0",
		"cmdstat_config|get": "calls=1,usec=5,usec_per_call=5.00",
		"used_memory":        "1000",
	}
	if got, want := info.Calls(), map[string]int64{"evalsha": 12, "config|get": 1}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
