package sandbox

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
)

// madeUp returns a number for made-up data: the same for the same strings, in every sandbox.
func madeUp(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part)) // never fails
		_, _ = h.Write([]byte{0})
	}
	return scramble(h.Sum64())
}

// madeUpBytes returns n bytes, likewise.
func madeUpBytes(n int, parts ...string) []byte {
	out, from := make([]byte, 0, n+7), madeUp(parts...)
	for len(out) < n {
		out = binary.BigEndian.AppendUint64(out, from)
		from = scramble(from)
	}
	return out[:n]
}

// madeUpName returns n letters, digits, '_' and '-', likewise.
func madeUpName(n int, parts ...string) string {
	return base64.RawURLEncoding.EncodeToString(madeUpBytes(n, parts...))[:n]
}
