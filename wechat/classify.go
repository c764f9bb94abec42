package wechat

import (
	"slices"
	"sync"
)

// CodeRow is one row of the code table.
type CodeRow struct {
	Endpoint Endpoint // "" for a default row, which applies where no row names the endpoint
	Code     int
	Class    Class
	Meaning  string
	Chinese  string // Meaning in Chinese
	Source   string // the WeChat page that documents it, "SDK enum: …", or "user reports: …"
}

// Codes returns a copy of the whole code table: default rows first, then the rows
// of single endpoints.
func Codes() []CodeRow { return slices.Concat(defaultRows, endpointRows) }

// Classify returns the class of a code on an endpoint: that of the endpoint's own row, else
// that of the code's default row, else ClassUnlisted.
func Classify(ep Endpoint, code int) Class {
	row, _ := LookUp(ep, code)
	return row.Class // the zero Class is ClassUnlisted
}

// LookUp returns the row of a code on an endpoint: the endpoint's own, else the code's default row.
func LookUp(ep Endpoint, code int) (row CodeRow, listed bool) {
	rows := codeIndex()
	if row, listed = rows[codeKey{ep, code}]; !listed {
		row, listed = rows[codeKey{"", code}]
	}
	return row, listed
}

type codeKey struct {
	endpoint Endpoint
	code     int
}

// codeIndex returns the code table indexed by key, built on first use.
var codeIndex = sync.OnceValue(func() map[codeKey]CodeRow {
	index := make(map[codeKey]CodeRow, len(defaultRows)+len(endpointRows))
	for _, row := range Codes() {
		index[codeKey{row.Endpoint, row.Code}] = row
	}
	return index
})
