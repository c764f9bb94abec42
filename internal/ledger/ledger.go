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

// Ledger reads and writes task records. Create one with New.
type Ledger struct {
	rdb    redis.UniversalClient
	policy Policy
}

// Policy sets how long records are kept, and when a runner counts as dead.
type Policy struct {
	Retention time.Duration // of a settled record and its image
	StreamMax int64         // maximum entries of an app's stream, trimmed approximately; 0: none
	DeadAfter time.Duration // time since the start of a run after which its runner counts as dead
	LostLimit int           // number of dead runs that ends a task
	// StreamRetention is how long the entries of a stream are kept at least, unless StreamMax
	// cuts them. 0: Retention.
	StreamRetention time.Duration
	// IndexOpenIDs makes tasks findable by their receivers' openids, see FindOpenID.
	IndexOpenIDs bool
}

func (p Policy) streamRetention() time.Duration { return cmp.Or(p.StreamRetention, p.Retention) }

// New returns a Ledger on rdb. It does no I/O.
func New(rdb redis.UniversalClient, policy Policy) *Ledger {
	return &Ledger{rdb: rdb, policy: policy}
}

// Ref identifies a task. Batch is empty for a task without a batch.
type Ref struct{ App, ID, Batch string }

// keys returns the given keys, followed by the two keys of the batch if there is one.
func (r Ref) keys(first ...string) []string {
	if r.Batch == "" {
		return first
	}
	return append(first, BatchKey(r.App, r.Batch), batchIDsKey(r.App, r.Batch))
}

// Claim is the result of Mark.
type Claim struct {
	New   bool   // the id was free, and this call has marked it
	Done  bool   // the task of this id has an outcome
	Queue string // the queue that the id is marked with
	// Differs is true when the id is known with another digest. It is false when one of the two
	// digests is empty.
	Differs bool
}

// Mark claims an id for a queue, in the state scheduled or waiting, with the current time as the
// time of enqueuing. Further calls return the queue of the first one.
func (l *Ledger) Mark(ctx context.Context, ref Ref, queue, state string) (Claim, error) {
	marked := l.MarkMany(ctx, []MarkRequest{{Ref: ref, Queue: queue, State: state, Enqueued: time.Now()}})[0]
	return marked.Claim, marked.Err
}

// shortQueue returns the queue as a mark contains it: without the app, which is in the key.
func shortQueue(app, queue string) string { return strings.TrimPrefix(queue, app+":") }

// fullQueue returns the queue of a mark or record with its app, whether it has the app or not.
func fullQueue(app, queue string) string {
	if queue == "" || strings.HasPrefix(queue, app+":") {
		return queue
	}
	return app + ":" + queue
}

// Admission is Open's decision whether a runner may send a task.
type Admission string

// The admissions.
const (
	Proceed   Admission = "go"        // the runner may send it
	Settled   Admission = "settled"   // it has an outcome already
	Busy      Admission = "busy"      // another runner may still have it: open again after Wait
	Unknown   Admission = "unknown"   // it was written to WeChat, and may not be repeated
	Forgotten Admission = "forgotten" // it was marked, but has neither mark nor record now: it may have ended long ago
	Lost      Admission = "lost"      // too many of its runs died
	Canceled  Admission = "canceled"  // it was canceled
	Expired   Admission = "expired"   // not_after has passed
)

// OpenRequest is a request to send a task.
type OpenRequest struct {
	Runner  string        // unique to this run; no blanks
	Queue   string        // the task's asynq queue
	Fenced  bool          // the request is not safe to repeat, or only within Dedupe
	Dedupe  time.Duration // for which a fenced request may be repeated; 0: never
	Expired bool          // not_after has passed
	Marked  bool          // Mark was called for it: without mark and record it is Forgotten
	// Enqueued is the time of enqueuing of a task without a mark; zero if unknown.
	Enqueued time.Time
	// Receiver and ProcessAt are those of a MarkRequest.
	Receiver  string
	ProcessAt time.Time
}

// OpenResult is the result of Open.
type OpenResult struct {
	Admission  Admission
	Wait       time.Duration // with Busy
	Attempts   int           // runs of this task that made a call, including this one
	Generation int           // 0, plus one for each redrive
	Since      time.Time     // start of the run, Redis' time
	Enqueued   time.Time     // as passed to Mark, also after a redrive; zero if unknown
	Doubt      bool          // an earlier request got no answer, and WeChat may have accepted it
}

// Open assigns a task to a runner and raises its fence, or returns why the runner may not have
// it.
func (l *Ledger) Open(ctx context.Context, ref Ref, o OpenRequest) (OpenResult, error) {
	keys := ref.keys(TaskKey(ref.App, ref.ID), WaitingKey(ref.App, ref.ID))
	args := []any{
		o.Runner, o.Queue, flag(o.Fenced), o.Dedupe.Milliseconds(), l.policy.DeadAfter.Milliseconds(),
		flag(o.Expired), l.policy.LostLimit, ref.ID, flag(o.Marked), millis(o.Enqueued),
	}
	if ref.Batch != "" && !o.Marked {
		keys, args = append(keys, batchesKey(ref.App)), append(args, ref.Batch)
	}
	reply, err := openScript.Run(ctx, l.rdb, keys, args...).Slice()
	if err != nil {
		return OpenResult{}, fmt.Errorf("open the task: %w", err)
	}
	if len(reply) != 7 {
		return OpenResult{}, fmt.Errorf("open the task: unexpected reply of %d values", len(reply))
	}
	admission, _ := reply[0].(string)
	enqueued, _ := reply[6].(string)
	n := func(i int) int64 { v, _ := reply[i].(int64); return v }
	opened := OpenResult{
		Admission: Admission(admission), Wait: time.Duration(n(1)) * time.Millisecond,
		Attempts: int(n(2)), Generation: int(n(3)), Since: time.UnixMilli(n(4)), Doubt: n(5) == 1,
		Enqueued: enqueuedTime(enqueued),
	}
	l.indexOpened(ctx, ref, o, opened)
	return opened, nil
}

// DeferRequest describes how a runner returns a task.
type DeferRequest struct {
	Runner      string // that has it
	State       string // waiting or retrying
	NotAccepted bool   // WeChat certainly did not accept the request: the fence is lowered
	NotCalled   bool   // no request was made: the run does not count as an attempt
	Last        Answer // of the attempt, see Record.Last; zero keeps the one before
	// Wait is for how long the task is handed back; it is stored with Last.
	Wait time.Duration
}

// Defer returns a task for a later run.
func (l *Ledger) Defer(ctx context.Context, ref Ref, d DeferRequest) error {
	last, msg := d.Last.fields()
	err := deferScript.Run(ctx, l.rdb, []string{TaskKey(ref.App, ref.ID)},
		d.Runner, d.State, flag(d.NotAccepted), flag(d.NotCalled), last, msg, max(d.Wait, 0).Milliseconds()).Err()
	if err != nil {
		return fmt.Errorf("defer the task: %w", err)
	}
	return nil
}

// SettleRequest is the outcome of a task.
type SettleRequest struct {
	Outcome    string
	Result     []byte // the result record as JSON
	Queue      string
	Generation int         // as returned by Open
	Image      []byte      // bytes of a QR code; nil for none
	Replaces   string      // the owner of the fence, when its answer replaces "unknown"; else empty
	NoBlob     bool        // the task never had a blob: none is deleted
	Content    TaskContent // for a redrive; stored with the outcomes of Redrivable only
	// MsgID is that of an accepted message whose receipt is awaited; else empty.
	MsgID string
	// Person is the receiver of a message with the outcome unknown that its receipt may resolve, see
	// PersonOf; else empty.
	Person string
}

// SettleResult is the outcome in the record after Settle.
type SettleResult struct {
	Written bool // this call wrote the outcome; otherwise an earlier one stands
	Outcome string
	Result  []byte
}

// Settle writes the outcome, the stream entry, the batch's counters and the image in one step.
// The first outcome wins, except for SettleRequest.Replaces.
func (l *Ledger) Settle(ctx context.Context, ref Ref, e SettleRequest) (SettleResult, error) {
	keys := ref.keys(TaskKey(ref.App, ref.ID), StreamKey(ref.App), imageKey(ref.App, ref.ID), blobKey(ref.App, ref.ID),
		WaitingKey(ref.App, ref.ID), cutKey(ref.App))
	payload, headers := e.redrivableContent()
	awaitedKey, awaited := l.awaited(ref, e)
	if awaitedKey != "" {
		keys = append(keys, awaitedKey)
	}
	reply, err := settleScript.Run(ctx, l.rdb, keys, e.Outcome, e.Result, l.policy.Retention.Milliseconds(),
		l.policy.StreamMax, e.Image, e.Generation, e.Replaces, e.Queue, payload, headers, flag(e.NoBlob), ref.ID,
		l.policy.streamRetention().Milliseconds(), awaited).StringSlice()
	if err != nil {
		return SettleResult{}, fmt.Errorf("record the outcome: %w", err)
	}
	if reply[0] == "written" {
		return SettleResult{Written: true, Outcome: reply[1], Result: e.Result}, nil
	}
	s := SettleResult{Outcome: reply[1], Result: []byte(reply[2])}
	// An identical result means that this call wrote it: the connection broke before the reply
	// arrived, and go-redis repeated the command.
	s.Written = bytes.Equal(s.Result, e.Result)
	return s, nil
}

// Record is the content of a task's record, or of its mark.
type Record struct {
	State, Queue, Outcome string
	Result                []byte // JSON; empty before the end
	Attempts, Generation  int
	Enqueued              time.Time // only before the end; zero if unknown
	Last                  Answer    // of the last attempt that did not end the task; after the end see History
	Canceled              bool      // the task itself was canceled, not only its batch; only before the end
	Receipt               Receipt   // of an accepted message; Result does not have it

	pardon int // number of the last cancellation of the batch that does not apply to the task
}

// ErrNotFound is returned for a task or batch without a record, or whose record has expired.
var ErrNotFound = errors.New("ledger: no such record")

// Record reads a task's record or mark. It returns ErrNotFound if there is neither.
func (l *Ledger) Record(ctx context.Context, app, id string) (Record, error) {
	s, err := l.state(ctx, app, id, recordFields()...)
	if err != nil {
		return Record{}, err
	}
	return s.record(), nil
}

// Records reads the records or marks of some tasks in one round trip. ok is false for those that
// have neither.
func (l *Ledger) Records(ctx context.Context, refs []Ref) (records []Record, ok []bool, err error) {
	reads := make([]stateRead, len(refs))
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
		for i, ref := range refs {
			reads[i] = stateRead{app: ref.App, fields: recordFields()}
			reads[i].request(ctx, p, ref.ID)
		}
		return nil
	})
	records, ok = make([]Record, len(refs)), make([]bool, len(refs))
	for i := range reads {
		s, err := reads[i].state()
		switch {
		case err == nil:
			records[i], ok[i] = s.record(), true
		case !errors.Is(err, ErrNotFound):
			return nil, nil, err
		}
	}
	return records, ok, nil
}

// recordFields returns the fields of a record that make a Record.
func recordFields() []string {
	return []string{"state", "outcome", "result", "attempts", "generation", "enqueued", "last", "last_msg", "canceled", "pardon", "receipt"}
}

// record returns the Record of a state with the recordFields.
func (s taskState) record() Record {
	if s.marked {
		return Record{State: s.state, Queue: s.queue, Enqueued: enqueuedTime(s.enqueued)}
	}
	attempts, _ := strconv.Atoi(s.fields[3])
	generation, _ := strconv.Atoi(s.fields[4])
	pardon, _ := strconv.Atoi(s.fields[9])
	return Record{
		State: cmp.Or(s.fields[0], waiting), Queue: s.queue, Outcome: s.fields[1], Result: []byte(s.fields[2]),
		Attempts: attempts, Generation: generation, Enqueued: enqueuedTime(s.fields[5]),
		Last: parseAnswer(s.fields[6], s.fields[7]), Canceled: s.fields[8] != "", pardon: pardon,
		Receipt: parseReceipt(s.fields[10]),
	}
}

// Image reads the bytes of a task's QR code. It returns ErrNotFound if there is none.
func (l *Ledger) Image(ctx context.Context, app, id string) ([]byte, error) {
	return l.bytes(ctx, imageKey(app, id))
}

// PutBlob stores the image of a check until its task ends. The first image of an id stays.
func (l *Ledger) PutBlob(ctx context.Context, app, id string, image []byte) error {
	if err := putBlobScript.Run(ctx, l.rdb, []string{TaskKey(app, id), blobKey(app, id)}, image).Err(); err != nil {
		return fmt.Errorf("store the image: %w", err)
	}
	return nil
}

// Blob reads the image of a check. It returns ErrNotFound if there is none.
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

// millis returns t in ms since 1970, and 0 for the zero time.
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
