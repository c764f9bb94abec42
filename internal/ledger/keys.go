// Package ledger stores one record per task in Redis: its state, its runner and its outcome.
// asynq moves the tasks between queues.
//
// A task's record is the hash wxcourier:{<app>}:task:<id>. It exists from the first run on, or
// from the time when the task is canceled or ends. Until then the task has only a mark, a field
// of one of the hashes wxcourier:{<app>}:waiting:<n>: there may be millions of waiting tasks,
// and a key of its own costs Redis more memory than a mark. An id has either a mark or a
// record, unless another program has overwritten the mark. All keys of an app share its hash
// tag, so that each step below is one script on one slot, also on Redis Cluster:
//
//	Mark          a producer claims the id and its queue                 scheduled, waiting
//	Open          a runner gets the task, or the reason why it may not   sending
//	Defer         the runner returns the task for a later run            waiting, retrying
//	Settle        writes the outcome: record, stream, batch counters     done
//	BeginRedrive  an operator's redrive removes the outcome              waiting
//
// A mark, and later the record, contain a digest of what the task sends, so that a producer
// that uses the id for another content gets Claim.Differs.
//
// Waiting tasks never expire. The record of a settled task expires after Policy.Retention; until
// then its id is taken.
package ledger

import (
	"strconv"
	"strings"
)

// AppsKey is the set of all apps that had a task enqueued.
const AppsKey = "wxcourier:apps"

// WakeChannel is the pub/sub channel that notifies replicas of new tasks. The message is the
// queue's name.
const WakeChannel = "wxcourier:wake"

// TaskKey returns the key of a task's record.
func TaskKey(app, id string) string { return "wxcourier:{" + app + "}:task:" + id }

// waitingHashes is the number of hashes that share the marks of an app. Redis stores a hash of
// up to 512 short fields (hash-max-listpack-entries) in one piece of memory, a listpack: this
// number of hashes holds 7 million waiting tasks that way. Beyond that a mark takes some 100
// bytes instead of 50.
const waitingHashes = 16_384

// WaitingKey returns the key of the hash that contains the mark of a task until its first run:
// the field is <id>, its value see markText. FNV-1a of the id selects one of the app's hashes.
//
// A field `?<id>` next to a mark contains the time since which asynq does not have the task,
// see missing.go.
//
// A field or a value of more than 64 bytes (hash-max-listpack-value) makes Redis convert the
// whole hash into its larger form until the hash is empty. Marks are shorter; an id may have
// 128 characters, and costs more then.
func WaitingKey(app, id string) string {
	sum := uint32(2166136261)
	for i := range len(id) {
		sum = (sum ^ uint32(id[i])) * 16777619
	}
	return "wxcourier:{" + app + "}:waiting:" + strconv.Itoa(int(sum%waitingHashes))
}

// StreamKey returns the key of the stream of an app's results; each entry has one field,
// `result`.
func StreamKey(app string) string { return "wxcourier:{" + app + "}:results" }

// cutKey returns the key of the hash that says what was removed from an app's stream; see Cut.
func cutKey(app string) string { return StreamKey(app) + ":cut" }

// readersKey returns the key of the hash of the readers of an app's stream: by name
// "<cursor> <ordinal> <until>", see readerLua.
func readersKey(app string) string { return "wxcourier:{" + app + "}:readers" }

// readerKey returns the key of the hash of a reader: `lease` ("<owner> <ms>"), `batch`, `note` and
// `next` (ms).
func readerKey(app, name string) string { return "wxcourier:{" + app + "}:reader:" + name }

// deadKey returns the key of the stream of a reader's dead letters.
func deadKey(app, name string) string { return readerKey(app, name) + ":dead" }

// BatchKey returns the key of the hash of a batch's counters: total, done, one field per outcome,
// and one per kind of receipt, `receipt:<kind>`. For cancellations it has `withdrawn` (the number of the one in force),
// `withdrawals` (how many there were) and `withdrawn_at` (the time of the last one).
func BatchKey(app, batch string) string { return "wxcourier:{" + app + "}:batch:" + batch }

// batchIDsKey returns the key of the set of a batch's ids.
func batchIDsKey(app, batch string) string { return BatchKey(app, batch) + ":ids" }

// batchesKey returns the key of the sorted set of an app's batches; the score is the time of the last
// enqueue, in µs since 1970.
func batchesKey(app string) string { return "wxcourier:{" + app + "}:batches" }

// openidDaysKey returns the key of the sorted set of the days of an app's index of openids; the score
// is when the lists of the day expire, in seconds since 1970. See openids.go.
func openidDaysKey(app string) string { return "wxcourier:{" + app + "}:openids" }

// openidsKey returns the key of a list of an app's index of openids.
func openidsKey(app string, day int64, bucket int) string {
	return openidDaysKey(app) + ":" + strconv.FormatInt(day, 10) + ":" + strconv.Itoa(bucket)
}

// blobKey returns the key of the bytes of an image that is to be checked.
func blobKey(app, id string) string { return "wxcourier:{" + app + "}:blob:" + id }

// imageKey returns the key of the bytes of a task's QR code.
func imageKey(app, id string) string { return "wxcourier:{" + app + "}:image:" + id }

// redrivesKey returns the key of the set of an app's ids with a redrive in progress: it is not
// confirmed that asynq has the task.
func redrivesKey(app string) string { return "wxcourier:{" + app + "}:redrives" }

// KeyPattern matches the keys of all apps, for SCAN.
const KeyPattern = "wxcourier:{wx*}:*"

// KeyKind is the kind of an app's key.
type KeyKind int

// The kinds that ParseKey distinguishes.
const (
	OtherKey   KeyKind = iota
	MarksKey           // marks of waiting tasks, see WaitingKey
	RecordKey          // the record of a task; the name is its id
	BatchIDKey         // the ids of a batch; the name is that of the batch
)

// ParseKey splits a key of an app.
func ParseKey(key string) (app string, kind KeyKind, name string) {
	rest, ok := strings.CutPrefix(key, "wxcourier:{")
	app, rest, found := strings.Cut(rest, "}:")
	if !ok || !found {
		return "", OtherKey, ""
	}
	prefix, name, _ := strings.Cut(rest, ":")
	switch prefix {
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
