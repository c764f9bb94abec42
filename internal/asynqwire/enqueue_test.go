package asynqwire_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestPipelineWritesAsynqsWireFormat: a pipeline writes the same bytes as asynq's own client.
// The tasks have one header, since protobuf writes several in random order.
func TestPipelineWritesAsynqsWireFormat(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const queue = "wx0123456789abcdef:send:subscribe"
		later := time.Now().Add(time.Hour)
		made := func(id string, more ...asynq.Option) *asynq.Task {
			options := append([]asynq.Option{asynq.TaskID(id), asynq.MaxRetry(1_000_000), asynq.Timeout(24 * time.Hour)}, more...)
			return asynq.NewTaskWithHeaders("send:subscribe", []byte(`{"订单":1}`), map[string]string{"h": "v"}, options...)
		}
		written := func(id string) []byte {
			msg, err := rdb.HGet(t.Context(), asynqwire.TaskKey(queue, id), "msg").Bytes()
			if err != nil {
				t.Fatal(err)
			}
			rdb.FlushDB(t.Context())
			return msg
		}
		plain, enqueuer := asynq.NewClientFromRedisClient(rdb), asynqwire.NewEnqueuer(rdb)
		for name, options := range map[string][]asynq.Option{"now": nil, "later": {asynq.ProcessAt(later)}} {
			if _, err := plain.Enqueue(made("a", options...), asynq.Queue(queue)); err != nil {
				t.Fatal(err)
			}
			want := written("a")
			items := []*asynqwire.Item{{Task: made("a", options...), Queue: queue}, {Task: made("b", options...), Queue: queue}}
			enqueuer.EnqueueMany(t.Context(), items)
			for _, p := range items {
				if p.Err != nil {
					t.Fatal(p.Err)
				}
			}
			if got := written("a"); !bytes.Equal(got, want) {
				t.Errorf("%s: written %q, asynq itself writes %q", name, got, want)
			}
		}
	})
}
