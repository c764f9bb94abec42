package console

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/wechat"
)

func (c *Console) codesPage() page {
	return page{name: "codes", path: "/codes", nav: true, shortcut: "e", load: c.loadCodes}
}

// codesData is the data of the page of WeChat's codes.
type codesData struct {
	Query   string
	Class   string // the filter; "": all
	Classes []string
	Groups  []codeGroup
	Total   int
	Sources bool // the rows are few enough to show where they are from
}

// codeGroup is the codes of a class.
type codeGroup struct {
	Class string // class.<class> is its text
	Does  dispatch.Consequence
	Rows  []codeRow
}

// codeRow is a code on an endpoint.
type codeRow struct {
	Code     int
	Endpoint wechat.Endpoint // "": everywhere
	Else     bool            // everywhere but on endpoints with a row of their own
	Meaning  string
	Source   string
	Link     bool // the source is a page
}

// maxSourced is the number of rows up to which their sources are shown.
const maxSourced = 60

// loadCodes lists the codes that a search finds.
func (c *Console) loadCodes(r *request) (any, error) {
	v := r.URL.Query()
	return newCodes(r.lang, strings.TrimSpace(v.Get("q")), v.Get("class")), nil
}

// newCodes returns the codes of a class, "" for all, that have a text in their number, their endpoint
// or their meaning.
func newCodes(lang language, query, class string) codesData {
	data := codesData{Query: query, Class: class}
	rows := wechat.Codes()
	own := make(map[int]bool) // codes with a row of an endpoint
	for _, row := range rows {
		own[row.Code] = own[row.Code] || row.Endpoint != ""
	}
	classes := wechat.Classes()
	for _, of := range append(classes[1:], classes[0]) { // what is not listed comes last
		data.Classes = append(data.Classes, of.String())
		if class != "" && class != of.String() {
			continue
		}
		group := codeGroup{Class: of.String(), Does: dispatch.ConsequenceOf(of)}
		for _, row := range rows {
			if row.Class == of && matchesCode(row, query) {
				group.Rows = append(group.Rows, newCodeRow(lang, row, own[row.Code]))
			}
		}
		slices.SortStableFunc(group.Rows, func(a, b codeRow) int {
			return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Endpoint, b.Endpoint))
		})
		if data.Total += len(group.Rows); len(group.Rows) > 0 || of == wechat.ClassUnlisted && query == "" {
			data.Groups = append(data.Groups, group)
		}
	}
	data.Sources = data.Total <= maxSourced
	return data
}

func matchesCode(row wechat.CodeRow, query string) bool {
	query = strings.ToLower(query)
	return strings.HasPrefix(strconv.Itoa(row.Code), query) || strings.Contains(strings.ToLower(row.Meaning), query) ||
		strings.Contains(strings.ToLower(row.Chinese), query) || strings.Contains(string(row.Endpoint), query)
}

func newCodeRow(lang language, row wechat.CodeRow, own bool) codeRow {
	r := codeRow{
		Code: row.Code, Endpoint: row.Endpoint, Else: row.Endpoint == "" && own, Meaning: row.Meaning,
		Source: row.Source, Link: strings.HasPrefix(row.Source, "https://"),
	}
	if lang == chinese {
		r.Meaning = row.Chinese
	}
	return r
}
