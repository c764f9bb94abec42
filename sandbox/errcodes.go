package sandbox

import (
	"cmp"
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
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
	mixed := madeup.Scramble(serial)
	return fmt.Sprintf("%08x-%08x-%08x", uint32(at.Unix()), uint32(mixed>>32), uint32(mixed)) //nolint:gosec // the low 32 bits suffice
}
