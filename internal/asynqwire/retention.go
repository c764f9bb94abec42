package asynqwire

import (
	"encoding/binary"
	"time"
)

// fieldRetention is the number of the field with the retention, in seconds, in asynq's message of
// a task, which is a protobuf message.
const fieldRetention = 12

// RetentionPrefix returns the bytes that give a message a retention when they are put before it:
// asynq keeps the task for so long after it has completed. A retention in the message itself, which
// its producer chose with asynq.Retention, takes precedence: of two values of a field, a protobuf
// decoder takes the last. It returns "" for less than a second.
func RetentionPrefix(d time.Duration) string {
	seconds := uint64(max(d, 0) / time.Second)
	if seconds == 0 {
		return ""
	}
	const varint = 0 // the wire type
	return string(binary.AppendUvarint([]byte{fieldRetention<<3 | varint}, seconds))
}
