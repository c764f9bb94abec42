// Package journal is the memory of a run without a Redis of its own: an append-only file
// of JSON Lines that says which requests were about to be written and how each task
// ended, so that the same command, given again, goes on where the last one stopped.
//
//	{"wxcourier_journal":1}
//	{"sending":{"app":"wx…","id":"order-42","type":"send:subscribe","attempt":1,"since":"…"}}
//	{"returned":{"app":"wx…","id":"order-42"}}
//	{"result":{"id":"order-42","app":"wx…","type":"send:subscribe","outcome":"accepted",…}}
//
// A sending stands until a result of its task follows, or a returned, which says that
// WeChat surely did not take the request. A sending that stands when the file is opened is
// a request whose answer nobody knows. Bodies, and with them openids, are not in it.
//
// A line that was acknowledged is on disk. Lines that come while others are being written
// share one write and one fsync.
//
// The file is read once, when it is opened. Of each task that has a result its place in
// the file is kept, some sixty bytes; the result itself is read when it is asked for.
package journal
