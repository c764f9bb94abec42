package tasks

import (
	"encoding/base64"
	"encoding/binary"
)

// digestSize is how many characters a digest has, of 6 bits each. Two bodies have the same
// one by chance once in 69 billion pairs; every waiting task keeps its digest in Redis, so
// that each character counts.
const digestSize = 6

// digestOf stands for what a task sends: its type and its body. The order of an object's
// members does not count, since maps of many languages have none, and neither does a
// client_msg_id that Prepare made or would make. What decides when a task is sent, or
// whether, is no part of it: a producer that repeats a call may well compute a new
// process_at or not_after.
func (e *Envelope) digestOf(spec *Spec, body value) string {
	sum := fnv(fnvOffset, e.Type)
	for member := range body.elements() {
		if spec.Repeat == Deduped && string(member.key()) == clientMsgIDField && e.derived(member) {
			continue
		}
		sum += member.memberHash()
	}
	var text [8]byte
	binary.BigEndian.PutUint64(text[:], mix(sum))
	return base64.RawURLEncoding.EncodeToString(text[:])[:digestSize]
}

// derived tells whether a client_msg_id is the one that Prepare gives.
func (e *Envelope) derived(v value) bool {
	return v.isZero() || v.kind() == kindString && string(v.unquoted()) == clientMsgID(e.App, e.ID)
}

// memberHash is a hash of a member of an object: its name and its value.
func (v value) memberHash() uint64 {
	return mix(fnv(fnvOffset, v.key()) + mix(v.hash()))
}

// hash is a hash of a value.
func (v value) hash() uint64 {
	switch v.kind() {
	case kindObject:
		sum := uint64(kindObject)
		for member := range v.elements() {
			sum += member.memberHash()
		}
		return sum
	case kindArray:
		sum := uint64(kindArray)
		for element := range v.elements() {
			sum = mix(sum + mix(element.hash()))
		}
		return sum
	case kindAbsent, kindNull, kindBool, kindNumber, kindString:
	}
	return fnv(fnvOffset, v.raw())
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

// mix spreads the bits of a sum over all of them (the finalizer of MurmurHash3), so that
// sums may be added up.
func mix(sum uint64) uint64 {
	sum = (sum ^ sum>>33) * 0xff51afd7ed558ccd
	sum = (sum ^ sum>>33) * 0xc4ceb9fe1a85ec53
	return sum ^ sum>>33
}
