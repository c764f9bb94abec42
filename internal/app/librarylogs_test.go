package app

import (
	"strings"
	"testing"
)

func TestStdLogOmitsConnectionBytes(t *testing.T) {
	const secret = "the-app-secret-0123456789"
	var b strings.Builder
	for _, line := range []string{
		"2026/11/21 17:00:00 Unsolicited response received on idle HTTP channel starting with \"{\\\"access_token\\\":\\\"" + secret + "\\\"}\"; err=<nil>\n",
		"2026/11/21 17:00:00 http: panic serving 127.0.0.1:1: \x1b[31m\n",
	} {
		if n, err := (stdLogWriter{&b}).Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	const want = "2026/11/21 17:00:00 Unsolicited response received on idle HTTP channel (its bytes are omitted)\n" +
		"2026/11/21 17:00:00 http: panic serving 127.0.0.1:1: \\x1b[31m\n"
	if b.String() != want {
		t.Errorf("%q", b.String())
	}
}
