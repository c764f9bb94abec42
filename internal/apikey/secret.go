package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"regexp"
	"strings"
)

const (
	prefix      = "wxc_"
	secretBytes = 20 // 160 random bits: 32 characters
)

// encoding is that of secrets: lower case, without characters that need escapes anywhere.
var encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var validID = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// ValidID reports whether an id is one that a key may have: 1 to 64 of a-z, 0-9, "-" and ".", and
// not "local".
func ValidID(id string) bool { return validID.MatchString(id) && id != localID }

// generate returns a new key with an id, and its hash.
func generate(id string) (key string, hash [sha256.Size]byte) {
	secret := make([]byte, secretBytes)
	_, _ = rand.Read(secret) // never fails
	key = prefix + id + "_" + encoding.EncodeToString(secret)
	return key, sha256.Sum256([]byte(key))
}

// idOf returns the id in a key. The rest is not checked.
func idOf(key string) string {
	rest, ours := strings.CutPrefix(key, prefix)
	end := strings.LastIndexByte(rest, '_')
	if !ours || end < 0 {
		return ""
	}
	return rest[:end]
}

// inText matches what may be a key in a longer text.
var inText = regexp.MustCompile(prefix + `[A-Za-z0-9._-]+`)

// Redact returns a text with each key in it replaced.
func Redact(text string) string {
	if !strings.Contains(text, prefix) {
		return text
	}
	return inText.ReplaceAllString(text, prefix+"REDACTED")
}
