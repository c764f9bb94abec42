package sandbox

import (
	"cmp"
	"fmt"
	"time"
)

// Unanswered is the errcode of calls that were not accepted and got no answer in WeChat's format: reset, hang, garbage,
// badgateway.
const Unanswered = -1000

// refusal is an errcode other than 0, with WeChat's wording.
type refusal struct {
	code int
	msg  string
}

func refuse(code int) *refusal { return &refusal{code: code, msg: errmsg(code)} }

// errmsg returns WeChat's wording of a code, or "error" if there is none.
func errmsg(code int) string { return cmp.Or(wordings[code], "error") }

// rid returns a request id as WeChat appends it to an errmsg: the time and two words, in hexadecimal.
func rid(at time.Time, serial uint64) string {
	mixed := scramble(serial)
	return fmt.Sprintf("%08x-%08x-%08x", uint32(at.Unix()), uint32(mixed>>32), uint32(mixed)) //nolint:gosec // the low 32 bits suffice
}

// scramble maps consecutive numbers to numbers spread over all 64 bits, one to one (the finaliser of SplitMix64).
func scramble(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
