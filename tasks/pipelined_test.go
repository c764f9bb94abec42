package tasks

import (
	"bytes"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/redistest"
)

// TestPipelineWritesAsynqsWireFormat: a pipeline writes the same bytes as asynq's own client.
// The tasks have one header, since protobuf writes several in random order.
func TestPipelineWritesAsynqsWireFormat(t *testing.T) {
	redistest.Each(t, func(t *testing.T, rdb redis.UniversalClient) {
		const queue = "wx0123456789abcdef:send:subscribe"
		later := time.Now().Add(time.Hour)
		made := func(id string, more ...asynq.Option) *asynq.Task {
			options := append([]asynq.Option{asynq.TaskID(id), asynq.MaxRetry(MaxRetry), asynq.Timeout(handlerTimeout)}, more...)
			return asynq.NewTaskWithHeaders(TypeSubscribe, []byte(`{"订单":1}`), map[string]string{"h": "v"}, options...)
		}
		written := func(id string) []byte {
			key := "asynq:{" + queue + "}:t:" + id
			msg, err := rdb.HGet(t.Context(), key, "msg").Bytes()
			if err != nil {
				t.Fatal(err)
			}
			rdb.FlushDB(t.Context())
			return msg
		}
		plain, client := asynq.NewClientFromRedisClient(rdb), NewClient(rdb)
		for name, options := range map[string][]asynq.Option{"now": nil, "later": {asynq.ProcessAt(later)}} {
			if _, err := plain.Enqueue(made("a", options...), asynq.Queue(queue)); err != nil {
				t.Fatal(err)
			}
			want := written("a")
			items := []*item{{task: made("a", options...), queue: queue}, {task: made("b", options...), queue: queue}}
			client.enqueuePipelined(t.Context(), items)
			for _, p := range items {
				if p.err != nil {
					t.Fatal(p.err)
				}
			}
			if got := written("a"); !bytes.Equal(got, want) {
				t.Errorf("%s: written %q, asynq itself writes %q", name, got, want)
			}
		}
	})
}
