package wechat

import (
	"slices"
	"sync"
)

// CodeRow is one row of the code table.
type CodeRow struct {
	Endpoint Endpoint // "" for a default row: what the code means where no row names the endpoint
	Code     int
	Class    Class
	Meaning  string
	Source   string // the WeChat page that says so, "SDK enum: …", or "user reports: …"
}

// Codes returns a copy of the whole code table: default rows first, then the rows
// of single endpoints.
func Codes() []CodeRow { return slices.Concat(defaultRows, endpointRows) }

// Classify tells what a code means on an endpoint: its own row, else the code's
// default row, else ClassUnlisted.
func Classify(ep Endpoint, code int) Class {
	rows := codeIndex()
	if row, ok := rows[codeKey{ep, code}]; ok {
		return row.Class
	}
	return rows[codeKey{"", code}].Class // the zero Class is ClassUnlisted
}

type codeKey struct {
	endpoint Endpoint
	code     int
}

// codeIndex is the table by its key, made once on first use.
var codeIndex = sync.OnceValue(func() map[codeKey]CodeRow {
	index := make(map[codeKey]CodeRow, len(defaultRows)+len(endpointRows))
	for _, row := range Codes() {
		index[codeKey{row.Endpoint, row.Code}] = row
	}
	return index
})
