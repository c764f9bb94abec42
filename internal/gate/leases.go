package gate

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
)

// leases extends the leases of an asynq server's tasks. asynq does so every five seconds,
// for one queue after the other, and starts and ends no task meanwhile: with hundreds of
// queues and a slow Redis all lanes would stop. At the first of these commands leases
// extends the leases of all queues in one round trip, and then answers the other commands
// without Redis.
type leases struct {
	pipeline func() redis.Pipeliner

	mu       sync.Mutex
	running  map[string]map[string]bool // guarded by mu; queue → ids of tasks that have handlers
	extended map[string]extension       // guarded by mu; by queue
}

// extension records which leases of a queue were extended, and when.
type extension struct {
	at  time.Time
	ids map[string]bool
}

// extensionTTL is how long an extension may answer asynq's command. It is less than asynq's
// interval of five seconds.
const extensionTTL = 2 * time.Second

func newLeases(pipeline func() redis.Pipeliner) *leases {
	return &leases{pipeline: pipeline, running: make(map[string]map[string]bool), extended: make(map[string]extension)}
}

// begin records that a task has a handler; end removes it.
func (s *leases) begin(queue, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[queue] == nil {
		s.running[queue] = make(map[string]bool)
	}
	s.running[queue][id] = true
}

func (s *leases) end(queue, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running[queue], id)
	if len(s.running[queue]) == 0 {
		delete(s.running, queue)
	}
}

// extend answers asynq's command for one queue.
func (s *leases) extend(ctx context.Context, queue string, cmd *redis.IntCmd, next redis.ProcessHook) error {
	if s.covers(queue, cmd.Args()) {
		cmd.SetVal(0) // ZADD XX adds nothing
		return nil
	}
	s.extendOthers(ctx, queue, cmd.Args())
	return next(ctx, cmd)
}

// covers reports whether all leases of a command were extended within extensionTTL.
func (s *leases) covers(queue string, args []any) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.extended[queue]
	delete(s.extended, queue)
	if time.Since(last.at) > extensionTTL {
		return false
	}
	for i := 4; i < len(args); i += 2 {
		id, _ := args[i].(string)
		if !last.ids[id] {
			return false
		}
	}
	return true
}

// extendOthers extends the leases of the other queues, to the same time as asynq's command.
func (s *leases) extendOthers(ctx context.Context, queue string, args []any) {
	now, ids := time.Now(), make(map[string]extension)
	s.mu.Lock()
	for name, running := range s.running {
		if name == queue {
			continue
		}
		e := extension{at: now, ids: make(map[string]bool, len(running))}
		for id := range running {
			e.ids[id] = true
		}
		ids[name] = e
	}
	s.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	pipe := s.pipeline()
	calls := make(map[string]*redis.Cmd, len(ids))
	for name, e := range ids {
		own := []any{"zadd", asynqwire.Key(name, asynqwire.Lease), "xx"}
		for id := range e.ids {
			own = append(own, args[3], id)
		}
		calls[name] = redis.NewCmd(ctx, own...)
		_ = pipe.Process(ctx, calls[name])
	}
	_, _ = pipe.Exec(ctx) // each has its own error
	s.mu.Lock()
	defer s.mu.Unlock()
	s.extended = make(map[string]extension, len(ids))
	for name, e := range ids {
		if calls[name].Err() == nil { // on an error asynq's own command decides
			s.extended[name] = e
		}
	}
}
