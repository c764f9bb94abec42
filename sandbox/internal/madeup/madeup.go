// Package madeup makes the data up that the sandbox answers with: numbers, names and keys that are the
// same for the same strings in every sandbox, and pictures that look like QR codes.
package madeup

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
)

// Number returns a number: the same for the same strings, in every sandbox.
func Number(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part)) // never fails
		_, _ = h.Write([]byte{0})
	}
	return Scramble(h.Sum64())
}

// Bytes returns n bytes, likewise.
func Bytes(n int, parts ...string) []byte {
	out, from := make([]byte, 0, n+7), Number(parts...)
	for len(out) < n {
		out = binary.BigEndian.AppendUint64(out, from)
		from = Scramble(from)
	}
	return out[:n]
}

// Name returns n letters, digits, '_' and '-', likewise.
func Name(n int, parts ...string) string {
	return base64.RawURLEncoding.EncodeToString(Bytes(n, parts...))[:n]
}

// Scramble maps consecutive numbers to numbers spread over all 64 bits, one to one (the finaliser of SplitMix64).
func Scramble(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
