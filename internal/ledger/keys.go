// Package ledger keeps the one record of each task in Redis: what state it is in,
// who is sending it, and how it ended. asynq moves tasks; the ledger remembers them.
//
// A task's record is the hash wxcourier:{<app>}:task:<id>, from its first run on, or from
// when it is canceled or ends. Until then the task has a mark alone, a field of one of the
// hashes wxcourier:{<app>}:waiting:<n>: there may be millions of them, and a key costs
// Redis more than what a mark says. An id has a mark or a record, not both, unless somebody
// else's hand has spoiled the mark. All keys of an app share its hash tag, so that each step
// below is one script on one slot, also on Redis Cluster:
//
//	Mark    the producer claims the id and its queue              scheduled, waiting
//	Open    a runner takes the task, or learns why it may not     sending
//	Defer   the runner hands it back for later                    waiting, retrying
//	Settle  the one outcome: record, stream and batch counters    done
//	PutBack an operator's redrive takes the outcome back          waiting
//
// A mark, and then the record, hold a digest of what the task sends, so that a producer who
// uses the id for something else is told.
//
// Waiting tasks never expire. A settled record lives for the retention that Settle
// was given; as long as it lives, its id is taken.
package ledger

import (
	"strconv"
	"strings"
)

// AppsKey is the set of all apps that a task was ever enqueued for.
const AppsKey = "wxcourier:apps"

// WakeChannel is the pub/sub channel that tells replicas that a queue has work. The
// message is the queue's name.
const WakeChannel = "wxcourier:wake"

// TaskKey is the record of a task.
func TaskKey(app, id string) string { return "wxcourier:{" + app + "}:task:" + id }

// waitingHashes is over how many hashes the marks of an app are spread. Redis keeps a hash of
// up to 512 short fields (hash-max-listpack-entries) in one piece of memory: so many hold 7
// million waiting tasks. With more, a mark takes some 100 bytes in place of 50.
const waitingHashes = 16_384

// WaitingKey is the hash that has the mark of a task while it waits for its first run: field
// <id>, value see markText. Which of the app's hashes it is, is FNV-1a of the id.
//
// A field `?<id>` beside a mark notes since when asynq does not have the task, see missing.go.
//
// A field or a value of more than 64 bytes (hash-max-listpack-value) takes a hash out of
// that one piece, with all that is in it, for as long as it has fields. Marks are shorter;
// an id may have 128 characters, and costs more then.
func WaitingKey(app, id string) string {
	sum := uint32(2166136261)
	for i := range len(id) {
		sum = (sum ^ uint32(id[i])) * 16777619
	}
	return "wxcourier:{" + app + "}:waiting:" + strconv.Itoa(int(sum%waitingHashes))
}

// StreamKey is the stream of an app's results; each entry has one field, `result`.
func StreamKey(app string) string { return "wxcourier:{" + app + "}:results" }

// BatchKey is the hash of a batch's counters: total, done, one field an outcome,
// `withdrawn` while the batch is taken back, `withdrawals`, how often it was, and
// `withdrawn_at`, when it last was.
func BatchKey(app, batch string) string { return "wxcourier:{" + app + "}:batch:" + batch }

// batchIDsKey is the set of the ids of a batch.
func batchIDsKey(app, batch string) string { return BatchKey(app, batch) + ":ids" }

// blobKey holds the bytes of an image that waits to be checked.
func blobKey(app, id string) string { return "wxcourier:{" + app + "}:blob:" + id }

// imageKey holds the bytes of a QR code that a task asked for.
func imageKey(app, id string) string { return "wxcourier:{" + app + "}:image:" + id }

// redrivesKey is the set of the ids of an app whose redrives are not known to have got as
// far as asynq.
func redrivesKey(app string) string { return "wxcourier:{" + app + "}:redrives" }

// KeyPattern is what the keys of apps match, for SCAN.
const KeyPattern = "wxcourier:{wx*}:*"

// KeyKind says what a key of an app holds.
type KeyKind int

// The kinds that ParseKey tells apart.
const (
	OtherKey   KeyKind = iota
	MarksKey           // marks of waiting tasks, see WaitingKey
	RecordKey          // the record of a task; the name is its id
	BatchIDKey         // the ids of a batch; the name is the batch's
)

// ParseKey takes a key of an app apart.
func ParseKey(key string) (app string, kind KeyKind, name string) {
	rest, ok := strings.CutPrefix(key, "wxcourier:{")
	app, rest, found := strings.Cut(rest, "}:")
	if !ok || !found {
		return "", OtherKey, ""
	}
	what, name, _ := strings.Cut(rest, ":")
	switch what {
	case "waiting":
		return app, MarksKey, name
	case "task":
		return app, RecordKey, name
	case "batch":
		if batch, ok := strings.CutSuffix(name, ":ids"); ok {
			return app, BatchIDKey, batch
		}
	}
	return app, OtherKey, ""
}
