package tasks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	maxID    = 128
	maxBatch = 64
	// maxClientMsgID is the limit of client ids in other WeChat APIs. The page of
	// template/send states none for client_msg_id.
	maxClientMsgID = 32
)

// ValidApp reports whether app has the shape of a WeChat app id: ^wx[0-9a-f]{16}$.
func ValidApp(app string) bool {
	if len(app) != 18 || app[:2] != "wx" {
		return false
	}
	for i := 2; i < len(app); i++ {
		if c := app[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// ValidID reports whether id may be a task id: ^[A-Za-z0-9._~-]{1,128}$.
func ValidID(id string) bool { return isUnreserved(id, maxID) }

// ValidBatch reports whether name may be the name of a batch: ^[A-Za-z0-9._~-]{1,64}$.
func ValidBatch(name string) bool { return isUnreserved(name, maxBatch) }

// isUnreserved reports whether s has 1 to limit characters, all of which need no escape in a
// URL (RFC 3986).
func isUnreserved(s string, limit int) bool {
	if s == "" || len(s) > limit {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && c != '.' && c != '_' && c != '~' && c != '-' {
			return false
		}
	}
	return true
}

// nameFault says what is wrong with an id or the name of a batch: its length, its characters, or
// both. It names the ASCII characters that are not allowed, and no letters: a name may be made of
// a text for a person.
func nameFault(name string, limit int) string {
	var faults, chars []string
	if len(name) > limit {
		faults = append(faults, fmt.Sprintf("%d bytes", len(name)))
	}
	others := false
	for _, r := range name {
		switch char := strconv.QuoteRuneToASCII(r); {
		case r >= utf8.RuneSelf:
			others = true
		case !isUnreserved(string(r), 1) && !slices.Contains(chars, char):
			chars = append(chars, char)
		}
	}
	if others {
		chars = append(chars, "characters outside ASCII")
	}
	if len(chars) > 0 {
		faults = append(faults, strings.Join(chars, ", ")+" not allowed")
	}
	return fmt.Sprintf("%s; 1 to %d of A-Z a-z 0-9 . _ ~ - are allowed", strings.Join(faults, "; "), limit)
}

func isAlnum[C byte | rune](c C) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// newID returns a random id, for a task without one. It has no dash: the asynq web UI shows an
// id up to its first dash, and asynq's id begins with the app, so that all tasks of a queue
// would look the same.
func newID() string { return "t" + strings.ToLower(rand.Text()) }

// LineID returns an id for a line of a file whose task has none: a hash of the line, without
// white space at its ends, and of the number of equal lines before it. Enqueuing the same
// file again therefore repeats nothing, while two equal lines in one file are two tasks.
func LineID(line []byte, ordinal int) string {
	h := sha256.New()
	h.Write(bytes.TrimSpace(line))
	h.Write(strconv.AppendInt([]byte{0}, int64(ordinal), 10))
	return "f" + hex.EncodeToString(h.Sum(nil)[:16]) // no dash, as in newID
}

// clientMsgID returns the client_msg_id of a template message whose producer set none: the
// task's id if it is valid as one, else a hash. It depends on app and id only, so that a
// resend has the same.
func clientMsgID(app, id string) string {
	if len(id) <= maxClientMsgID && !strings.ContainsAny(id, ".~") {
		return id
	}
	sum := sha256.Sum256([]byte(app + "\x00" + id))
	return hex.EncodeToString(sum[:maxClientMsgID/2])
}

// Priority selects one of the two queues of a task's lane.
type Priority string

// The priorities. A lane dequeues bulk tasks only when no urgent task is pending.
const (
	Urgent Priority = "urgent" // the default
	Bulk   Priority = "bulk"
)

const bulkSuffix = ":bulk"

// QueueName returns the name of the asynq queue for an app's tasks of one type:
// "<app>:<type>" for urgent tasks, "<app>:<type>:bulk" for bulk tasks.
func QueueName(app, typ string, p Priority) string {
	if p == Bulk {
		return app + ":" + typ + bulkSuffix
	}
	return app + ":" + typ
}

// PlaintextLane is the lane of the tasks with [Envelope.Plaintext], which need no call: it stands for
// their type in the names of their queues, so that no limit and no hold of the type's other tasks
// delays them.
const PlaintextLane = "scheme:plaintext"

// TypeOfLane returns the task type of a lane: its name, except for [PlaintextLane].
func TypeOfLane(lane string) string {
	if lane == PlaintextLane {
		return TypeScheme
	}
	return lane
}

// QueueNames returns the names of both queues of an app's tasks of one type, the urgent one first.
func QueueNames(app, typ string) []string {
	return []string{QueueName(app, typ, Urgent), QueueName(app, typ, Bulk)}
}

// ParseQueue parses a queue name. ok is false for names that [QueueName] does not return.
// The type has the form kind:api but need not be in the catalog: a newer version may have it.
func ParseQueue(q string) (app, typ string, p Priority, ok bool) {
	app, lane, p, ok := ParseLane(q)
	return app, TypeOfLane(lane), p, ok
}

// ParseLane is [ParseQueue] with the lane in place of the type: [QueueName] of the lane is q.
func ParseLane(q string) (app, lane string, p Priority, ok bool) {
	app, typ, found := strings.Cut(q, ":")
	if !found || !ValidApp(app) {
		return "", "", "", false
	}
	p = Urgent
	if strings.Count(typ, ":") == 2 && strings.HasSuffix(typ, bulkSuffix) {
		typ, p = strings.TrimSuffix(typ, bulkSuffix), Bulk
	}
	if !isTypeName(typ) {
		return "", "", "", false
	}
	return app, typ, p, true
}

// isTypeName reports whether typ has the form kind:api, of lower-case letters and digits.
func isTypeName(typ string) bool {
	kind, api, found := strings.Cut(typ, ":")
	return found && isLowerAlnum(kind) && isLowerAlnum(api)
}

func isLowerAlnum(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}
