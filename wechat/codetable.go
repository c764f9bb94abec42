package wechat

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
)

// WriteCodeTable writes the code table as Markdown, grouped by class. docs/codes.md contains
// this table; a test compares the two.
func WriteCodeTable(w io.Writer) error {
	rows := Codes()
	slices.SortFunc(rows, func(a, b CodeRow) int {
		return cmp.Or(
			cmp.Compare(a.Class, b.Class),
			cmp.Compare(a.Code, b.Code),
			cmp.Compare(a.Endpoint, b.Endpoint),
		)
	})
	var b strings.Builder
	b.WriteString("| code | where | meaning | class |\n|---|---|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(&b, "| %d | %s | %s | `%s` |\n", row.Code, where(row), row.Meaning, row.Class)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// where returns the row's endpoint, or for a default row "elsewhere" if endpointRows has rows
// for the same code and "everywhere" if not.
func where(row CodeRow) string {
	if row.Endpoint != "" {
		return "`" + string(row.Endpoint) + "`"
	}
	if slices.ContainsFunc(endpointRows, func(r CodeRow) bool { return r.Code == row.Code }) {
		return "elsewhere"
	}
	return "everywhere"
}
