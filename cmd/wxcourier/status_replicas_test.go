package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/heartbeat"
)

// Status says what an operator has to do about the configurations of the replicas.
func TestStatusShowsConfigurations(t *testing.T) {
	read := time.Date(2026, 11, 21, 8, 0, 0, 0, time.Local)
	replica := func(id string, c *heartbeat.Configuration) heartbeat.Replica {
		return heartbeat.Replica{ID: id, Host: "h", Started: read, Configuration: c}
	}
	same := &heartbeat.Configuration{Hash: "aaaa1111", Read: read}
	for _, tt := range []struct {
		name     string
		replicas []heartbeat.Replica
		want     []string
		not      []string
	}{
		{
			"the same",
			[]heartbeat.Replica{replica("r1", same), replica("r2", same), replica("old", nil)},
			[]string{"CONFIG", "aaaa1111", "2026-11-21 08:00:00"},
			[]string{"differ", "refused", "restarted"},
		},
		{
			"a refusal, and keys for a restart",
			[]heartbeat.Replica{replica("r1", &heartbeat.Configuration{Hash: "aaaa1111", Read: read, Refused: read.Add(time.Hour), Restart: []string{"redis.db", "wechat.timeout"}})},
			[]string{"r1 has refused a newer configuration since 2026-11-21 09:00:00", "r1 has to be restarted for the changes of redis.db, wechat.timeout"},
			[]string{"differ"},
		},
		{
			"another",
			[]heartbeat.Replica{replica("r1", same), replica("r2", &heartbeat.Configuration{Hash: "bbbb2222", Read: read})},
			[]string{"bbbb2222", "The configurations of the replicas differ"},
			nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			writeReplicas(&b, tt.replicas)
			mentions(t, "status", b.String(), tt.want...)
			for _, not := range tt.not {
				if strings.Contains(b.String(), not) {
					t.Errorf("status contains %q:\n%s", not, b.String())
				}
			}
		})
	}
}
