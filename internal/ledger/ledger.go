package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Ledger reads and writes task records. The zero value is not usable; see New.
type Ledger struct {
	rdb    redis.UniversalClient
	policy Policy
}

// Policy is how long things are kept, and when a runner is given up.
type Policy struct {
	Retention time.Duration // of a settled record and its image
	StreamMax int64         // cap of an app's stream, in entries; trimmed approximately
	DeadAfter time.Duration // after which a runner that said nothing is held to be dead
	LostLimit int           // runs of one task that may die before it ends
}

// New does no I/O.
func New(rdb redis.UniversalClient, policy Policy) *Ledger {
	return &Ledger{rdb: rdb, policy: policy}
}

// Ref names a task. Batch is empty when the task is in none.
type Ref struct{ App, ID, Batch string }

func (r Ref) keys(first ...string) []string {
	if r.Batch == "" {
		return first
	}
	return append(first, BatchKey(r.App, r.Batch), batchIDsKey(r.App, r.Batch))
}

// Claim says what Mark found.
type Claim struct {
	New   bool   // the id was free, and is now marked
	Done  bool   // the id has an outcome
	Queue string // the queue that the id is marked with
	// Differs: the id is known with another digest. It is false where one of the two has none.
	Differs bool
}

// Mark claims an id for a queue, in the state scheduled or waiting, as enqueued now. Calling
// it again returns what the first call marked.
func (l *Ledger) Mark(ctx context.Context, ref Ref, queue, state string) (Claim, error) {
	marked := l.MarkMany(ctx, []Marking{{Ref: ref, Queue: queue, State: state, Enqueued: time.Now()}})[0]
	return marked.Claim, marked.Err
}

// shortQueue is what the mark of a waiting task says of its queue: the app stands in the
// key.
func shortQueue(app, queue string) string { return strings.TrimPrefix(queue, app+":") }

// fullQueue is the queue that a record means, which may be written with its app as well.
func fullQueue(app, queue string) string {
	if queue == "" || strings.HasPrefix(queue, app+":") {
		return queue
	}
	return app + ":" + queue
}

// Admission a runner is told when it opens a task.
type Admission string

// The answers of Open.
const (
	Proceed   Admission = "go"        // send it
	Settled   Admission = "settled"   // it has an outcome already
	Busy      Admission = "busy"      // another runner may still have it: look again after Wait
	Unknown   Admission = "unknown"   // it was written to WeChat, and may not be repeated
	Forgotten Admission = "forgotten" // it has neither mark nor record: it may have ended long ago
	Lost      Admission = "lost"      // too many runners died over it
	Canceled  Admission = "canceled"  // it was taken back
	Expired   Admission = "expired"   // not_after has passed
)

// OpenRequest is a request to send a task.
type OpenRequest struct {
	Runner  string        // unique to this run; no blanks
	Queue   string        // asynq queue that the task came from
	Fenced  bool          // the request is not safe to repeat, or only within Dedupe
	Dedupe  time.Duration // for which a fenced request may be repeated; 0: never
	Expired bool          // not_after has passed
	Marked  bool          // Mark was called for it: a task that is not known is lost
	// Enqueued is when a task without a mark was enqueued; zero when not known.
	Enqueued time.Time
}

// OpenResult is the answer.
type OpenResult struct {
	Admission  Admission
	Wait       time.Duration // with Busy
	Attempts   int           // runs of this task that called, this one included
	Generation int           // 0, and one more for each redrive
	Since      time.Time     // the server's time
	Enqueued   time.Time     // as Mark was told, also after a redrive; zero when not known
	Doubt      bool          // an earlier request got no answer, and may have been taken
}

// Open takes a task for a runner, and raises its fence, or tells why the runner may
// not have it.
func (l *Ledger) Open(ctx context.Context, ref Ref, o OpenRequest) (OpenResult, error) {
	reply, err := openScript.Run(ctx, l.rdb, ref.keys(TaskKey(ref.App, ref.ID), WaitingKey(ref.App, ref.ID)),
		o.Runner, o.Queue, flag(o.Fenced), o.Dedupe.Milliseconds(), l.policy.DeadAfter.Milliseconds(),
		flag(o.Expired), l.policy.LostLimit, ref.ID, flag(o.Marked), millis(o.Enqueued)).Slice()
	if err != nil {
		return OpenResult{}, fmt.Errorf("open the task: %w", err)
	}
	if len(reply) != 7 {
		return OpenResult{}, fmt.Errorf("open the task: a reply of %d parts", len(reply))
	}
	what, _ := reply[0].(string)
	enqueued, _ := reply[6].(string)
	n := func(i int) int64 { v, _ := reply[i].(int64); return v }
	return OpenResult{
		Admission: Admission(what), Wait: time.Duration(n(1)) * time.Millisecond,
		Attempts: int(n(2)), Generation: int(n(3)), Since: time.UnixMilli(n(4)), Doubt: n(5) == 1,
		Enqueued: enqueuedTime(enqueued),
	}, nil
}

// Deferral says how a task is handed back.
type Deferral struct {
	Runner      string // that has it
	State       string // waiting or retrying
	NotAccepted bool   // WeChat surely did not take the request: the fence is lowered
	NotCalled   bool   // there was no request: the run is no attempt
}

// Defer hands a task back for later.
func (l *Ledger) Defer(ctx context.Context, ref Ref, d Deferral) error {
	err := deferScript.Run(ctx, l.rdb, []string{TaskKey(ref.App, ref.ID)},
		d.Runner, d.State, flag(d.NotAccepted), flag(d.NotCalled)).Err()
	if err != nil {
		return fmt.Errorf("hand the task back: %w", err)
	}
	return nil
}

// Ending is the outcome of a task.
type Ending struct {
	Outcome    string
	Result     []byte // the result record as JSON
	Queue      string
	Generation int    // as Open gave it
	Image      []byte // bytes of a QR code; nil for none
	Replaces   string // the runner that owns the fence, when its answer replaces "unknown"
	NoBlob     bool   // it never had an image to check beside it: none is looked for
	Kept       Kept   // for a redrive; of the outcomes that one may replace, see Redrivable
}

// SettleResult is what the record says after Settle.
type SettleResult struct {
	Written bool // by this call; otherwise an earlier outcome stands
	Outcome string
	Result  []byte
}

// Settle writes the outcome, the stream entry, the batch's counters and the image in
// one step. The first outcome wins, but for Ending.Replaces.
func (l *Ledger) Settle(ctx context.Context, ref Ref, e Ending) (SettleResult, error) {
	keys := ref.keys(TaskKey(ref.App, ref.ID), StreamKey(ref.App), imageKey(ref.App, ref.ID), blobKey(ref.App, ref.ID),
		WaitingKey(ref.App, ref.ID))
	payload, headers := e.kept()
	reply, err := settleScript.Run(ctx, l.rdb, keys, e.Outcome, e.Result, l.policy.Retention.Milliseconds(),
		l.policy.StreamMax, e.Image, e.Generation, e.Replaces, e.Queue, payload, headers, flag(e.NoBlob), ref.ID).StringSlice()
	if err != nil {
		return SettleResult{}, fmt.Errorf("record the outcome: %w", err)
	}
	if reply[0] == "written" {
		return SettleResult{Written: true, Outcome: reply[1], Result: e.Result}, nil
	}
	s := SettleResult{Outcome: reply[1], Result: []byte(reply[2])}
	// The very same result stands: this call wrote it, on a connection that broke
	// before the answer came, and go-redis asked again.
	s.Written = bytes.Equal(s.Result, e.Result)
	return s, nil
}

// Record is a task's record as it stands, or its mark.
type Record struct {
	State, Queue, Outcome string
	Result                []byte // JSON; empty before the end
	Attempts, Generation  int
	Enqueued              time.Time // before the end; zero when not known
}

// ErrNotFound says that there is no such record, or no longer.
var ErrNotFound = errors.New("no such record")

// Record reads a task's record, or what its mark says, or ErrNone.
func (l *Ledger) Record(ctx context.Context, app, id string) (Record, error) {
	s, err := l.state(ctx, app, id, "state", "outcome", "result", "attempts", "generation", "enqueued")
	if err != nil {
		return Record{}, err
	}
	if s.marked {
		return Record{State: s.state, Queue: s.queue, Enqueued: enqueuedTime(s.enqueued)}, nil
	}
	attempts, _ := strconv.Atoi(s.fields[3])
	generation, _ := strconv.Atoi(s.fields[4])
	return Record{
		State: cmp.Or(s.fields[0], waiting), Queue: s.queue, Outcome: s.fields[1], Result: []byte(s.fields[2]),
		Attempts: attempts, Generation: generation, Enqueued: enqueuedTime(s.fields[5]),
	}, nil
}

// Image reads the bytes of the QR code that a task asked for, or ErrNone.
func (l *Ledger) Image(ctx context.Context, app, id string) ([]byte, error) {
	return l.bytes(ctx, imageKey(app, id))
}

// PutBlob keeps the image of a check until its task ends. The first one of an id stays.
func (l *Ledger) PutBlob(ctx context.Context, app, id string, image []byte) error {
	if err := putBlobScript.Run(ctx, l.rdb, []string{TaskKey(app, id), blobKey(app, id)}, image).Err(); err != nil {
		return fmt.Errorf("keep the image: %w", err)
	}
	return nil
}

// Blob reads the image of a check, or ErrNone.
func (l *Ledger) Blob(ctx context.Context, app, id string) ([]byte, error) {
	return l.bytes(ctx, blobKey(app, id))
}

func (l *Ledger) bytes(ctx context.Context, key string) ([]byte, error) {
	b, err := l.rdb.Get(ctx, key).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	return b, nil
}

// millis is 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(t.UnixMilli(), 0)
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}
