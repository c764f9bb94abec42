package sandbox

import (
	"encoding/base64"
	"encoding/binary"
	"hash/fnv"
)

// madeUp is a number for what the sandbox has to invent: the same for the same strings, in every sandbox.
func madeUp(parts ...string) uint64 {
	h := fnv.New64a()
	for _, part := range parts {
		_, _ = h.Write([]byte(part)) // never fails
		_, _ = h.Write([]byte{0})
	}
	return scramble(h.Sum64())
}

// madeUpBytes is n bytes of the same kind.
func madeUpBytes(n int, parts ...string) []byte {
	out, from := make([]byte, 0, n+7), madeUp(parts...)
	for len(out) < n {
		out = binary.BigEndian.AppendUint64(out, from)
		from = scramble(from)
	}
	return out[:n]
}

// madeUpName is n letters, digits, '_' and '-'.
func madeUpName(n int, parts ...string) string {
	return base64.RawURLEncoding.EncodeToString(madeUpBytes(n, parts...))[:n]
}
