// Package ledger keeps the one record of each task in Redis: what state it is in,
// who is sending it, and how it ended. asynq moves tasks; the ledger remembers them.
//
// A task's record is the hash wxcourier:{<app>}:task:<id>. All keys of an app share
// its hash tag, so that each step below is one script on one slot, also on Redis
// Cluster:
//
//	Mark    the producer claims the id and its queue              scheduled, waiting
//	Open    a runner takes the task, or learns why it may not     sending
//	Defer   the runner hands it back for later                    waiting, retrying
//	Settle  the one outcome: record, stream and batch counters    done
//	PutBack an operator's redrive takes the outcome back          waiting
//
// Waiting tasks never expire. A settled record lives for the retention that Settle
// was given; as long as it lives, its id is taken.
package ledger

import "fmt"

// AppsKey is the set of all apps that a task was ever enqueued for.
const AppsKey = "wxcourier:apps"

// WakeChannel is the pub/sub channel that tells replicas that a queue has work. The
// message is the queue's name.
const WakeChannel = "wxcourier:wake"

// TaskKey is the record of a task.
func TaskKey(app, id string) string { return fmt.Sprintf("wxcourier:{%s}:task:%s", app, id) }

// StreamKey is the stream of an app's results; each entry has one field, `result`.
func StreamKey(app string) string { return fmt.Sprintf("wxcourier:{%s}:results", app) }

// BatchKey is the hash of a batch's counters: total, done, one field an outcome,
// `withdrawn` while the batch is taken back, and `withdrawals`, how often it was.
func BatchKey(app, batch string) string { return fmt.Sprintf("wxcourier:{%s}:batch:%s", app, batch) }

// batchIDsKey is the set of the ids of a batch.
func batchIDsKey(app, batch string) string { return BatchKey(app, batch) + ":ids" }

// blobKey holds the bytes of an image that waits to be checked.
func blobKey(app, id string) string { return fmt.Sprintf("wxcourier:{%s}:blob:%s", app, id) }

// imageKey holds the bytes of a QR code that a task asked for.
func imageKey(app, id string) string { return fmt.Sprintf("wxcourier:{%s}:image:%s", app, id) }

// redrivesKey is the set of the ids of an app whose redrives are not known to have got as
// far as asynq.
func redrivesKey(app string) string { return fmt.Sprintf("wxcourier:{%s}:redrives", app) }
