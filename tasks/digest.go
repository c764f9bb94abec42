package tasks

import (
	"encoding/base64"
	"encoding/binary"
	"time"

	"github.com/wxcourier/wxcourier/internal/strictjson"
)

// digestSize is the length of a digest in characters of 6 bits each. Two different bodies
// have the same digest once in 69 billion pairs. The digest is short because Redis holds one
// for every waiting task.
const digestSize = 6

// digestOf returns a digest of a task's type and body. It ignores the order of an object's
// members, since maps are unordered in many languages, and a client_msg_id that Prepare
// made or would make. The other fields of the envelope are not part of the digest: a
// producer that repeats a call may compute a new process_at or not_after.
func (e *Envelope) digestOf(spec *Spec, body strictjson.Value) string {
	sum := fnv(fnvOffset, e.Type)
	if e.Plaintext {
		sum += fnv(fnvOffset, PlaintextLane)
	}
	for member := range body.Elements() {
		if spec.Repeat == Deduped && string(member.Key()) == clientMsgIDField && e.derived(member) {
			continue
		}
		sum += hashMember(member)
	}
	var text [8]byte
	binary.BigEndian.PutUint64(text[:], mix(sum))
	return base64.RawURLEncoding.EncodeToString(text[:])[:digestSize]
}

// derived reports whether a client_msg_id is absent or the one that Prepare sets.
func (e *Envelope) derived(v strictjson.Value) bool {
	return v.IsZero() || v.Kind() == strictjson.String && string(v.Unquoted()) == clientMsgID(e.App, e.ID)
}

// hashMember returns a hash of a member of an object: its name and its value.
func hashMember(v strictjson.Value) uint64 {
	return mix(fnv(fnvOffset, v.Key()) + mix(hashValue(v)))
}

// The hashes of an empty object and an empty array. Redis holds digests of earlier versions, so
// they must not change.
const (
	arraySeed  = 5
	objectSeed = 6
)

func hashValue(v strictjson.Value) uint64 {
	switch v.Kind() {
	case strictjson.Object:
		sum := uint64(objectSeed)
		for member := range v.Elements() {
			sum += hashMember(member)
		}
		return sum
	case strictjson.Array:
		sum := uint64(arraySeed)
		for element := range v.Elements() {
			sum = mix(sum + mix(hashValue(element)))
		}
		return sum
	case strictjson.Absent, strictjson.Null, strictjson.Bool, strictjson.Number, strictjson.String:
	}
	return fnv(fnvOffset, v.Raw())
}

// FNV-1a in 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/), without the allocations of
// hash/fnv.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func fnv[T string | []byte](sum uint64, text T) uint64 {
	for i := range len(text) {
		sum = (sum ^ uint64(text[i])) * fnvPrime
	}
	return sum
}

// mix is the finalizer of MurmurHash3: every bit of the result depends on every bit of sum.
// Mixed hashes can be added.
func mix(sum uint64) uint64 {
	sum = (sum ^ sum>>33) * 0xff51afd7ed558ccd
	sum = (sum ^ sum>>33) * 0xc4ceb9fe1a85ec53
	return sum ^ sum>>33
}

// PrepareWithDigest is [Envelope.Prepare] for a caller that marks the id itself. It also returns
// the digest by which a repeated call with another body is recognized.
func (e *Envelope) PrepareWithDigest(now time.Time) (digest string, err error) {
	var m marking
	err = e.prepare(checker{from: now}, &m)
	return m.digest, err
}
