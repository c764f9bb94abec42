package tasks

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
)

const (
	maxID    = 128
	maxBatch = 64
	// maxClientMsgID keeps to what WeChat's own client ids elsewhere allow: the page
	// of template/send states no limit for client_msg_id.
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

// ValidBatch reports whether name may be a batch's: ^[A-Za-z0-9._~-]{1,64}$.
func ValidBatch(name string) bool { return isUnreserved(name, maxBatch) }

// isUnreserved: 1..limit of the characters that need no escape in a URL (RFC 3986).
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

func isAlnum[C byte | rune](c C) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// newID is a fresh id for a task whose producer gave none.
func newID() string { return "t-" + strings.ToLower(rand.Text()) }

// LineID is the id of a line of a file that has none of its own: a hash of the line
// (white space at its ends aside) and of its ordinal among the equal lines before
// it (0 for the first). So enqueuing the same file again repeats nothing, while two
// equal lines in one file are two tasks.
func LineID(line []byte, ordinal int) string {
	h := sha256.New()
	h.Write(bytes.TrimSpace(line))
	h.Write(strconv.AppendInt([]byte{0}, int64(ordinal), 10))
	return "f-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// clientMsgID is the client_msg_id of a template message whose producer set none:
// the task's id where it fits, else a hash. It depends on nothing but app and id,
// so that a resend carries the same.
func clientMsgID(app, id string) string {
	if len(id) <= maxClientMsgID && !strings.ContainsAny(id, ".~") {
		return id
	}
	sum := sha256.Sum256([]byte(app + "\x00" + id))
	return hex.EncodeToString(sum[:maxClientMsgID/2])
}
