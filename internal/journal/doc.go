// Package journal records a run that has no Redis of its own: an append-only file of JSON Lines
// with the requests that were about to be sent and the outcome of each task, so that the same
// command, run again, continues where the last one stopped.
//
//	{"wxcourier_journal":1}
//	{"sending":{"app":"wx…","id":"order-42","type":"send:subscribe","attempt":1,"since":"…"}}
//	{"returned":{"app":"wx…","id":"order-42"}}
//	{"result":{"id":"order-42","app":"wx…","type":"send:subscribe","outcome":"accepted",…}}
//
// A sending is pending until a result of its task follows, or a returned, which means that
// WeChat certainly did not accept the request. A sending that is pending when the file is
// opened is a request whose answer is unknown. The file contains no bodies, and so no openids.
//
// A line is on disk when the call that wrote it returns nil. Lines that arrive while others are
// being written share one write and one fsync.
//
// The file is read once, when it is opened. For each task with a result, the position in the
// file is kept in memory, some sixty bytes; Outcome reads the result itself.
package journal
