package ratelimit

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteLimitTable writes the default limits as a Markdown table, for docs/limits.md.
func WriteLimitTable(w io.Writer) error {
	var b strings.Builder
	b.WriteString("| type, path or group | a second | a minute | a day | lifetime | stated by |\n")
	b.WriteString("|---|---:|---:|---:|---:|---|\n")
	for _, r := range Defaults() {
		name := "`" + r.Name + "`"
		if r.Members != nil {
			name += " (shared by `" + strings.Join(r.Members, "`, `") + "`)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | [%s](%s) |\n", name,
			count(int64(r.Limit.PerSecond)), count(int64(r.Limit.PerMinute)), count(r.Limit.PerDay), count(r.Limit.Total),
			r.Source[strings.LastIndexByte(r.Source, '/')+1:], r.Source)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// count formats n with thousands separators, and 0 (no limit) as "".
func count(n int64) string {
	if n == 0 {
		return ""
	}
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
