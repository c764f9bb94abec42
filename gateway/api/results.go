package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/resultcsv"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

const resultsTag = "results"

// resultsScan is the number of results that one request reads at most.
const resultsScan = 20_000

// The headers of the formats that have no place for these.
const (
	cursorHeader = "Wxcourier-Cursor"
	moreHeader   = "Wxcourier-More"
	gapsHeader   = "Wxcourier-Gaps"
)

func (a *API) registerResults() {
	register(a, apikey.Read, huma.Operation{
		OperationID: "list-results", Method: http.MethodGet, Path: "/v1/results", Tags: []string{resultsTag},
		Summary: "List results",
		Description: "The results of ended tasks, of all apps together, oldest first. A request reads at most 20,000 results: " +
			"with a filter, a page may have few or no items although there are more. Repeat it with the `cursor` of the answer while `more` is true; " +
			"later, the same cursor goes on with what was recorded since. `gaps` says which results after the cursor (or `since`) are no longer kept. " +
			"A receipt, which says later what became of an accepted message, is an item of its own: it has `receipt` and no `finished_at`, and supplements the outcome that the list has before it. " +
			"In JSON Lines and CSV the headers " + cursorHeader + ", " + moreHeader + " and " + gapsHeader + " have these three.",
		Responses: resultsResponses(a),
	}, a.listResults)
}

// ResultsFilter is the part of an input that filters results.
type ResultsFilter struct {
	AppsQuery
	Type    []taskType    `query:"type,explode" nullable:"false" doc:"Only these task types."`
	Batch   string        `query:"batch" pattern:"^[A-Za-z0-9._~-]{1,64}$" patternDescription:"a batch name" doc:"Only this batch."`
	Outcome []outcomeName `query:"outcome,explode" nullable:"false" doc:"Only these outcomes."`
	ErrCode []int         `query:"errcode,explode" nullable:"false" doc:"Only outcomes with these error codes of WeChat."`
	Receipt []receiptName `query:"receipt,explode" nullable:"false" doc:"Only these receipts; with outcome or errcode, besides the outcomes that those select."`
}

// matches reports whether a result passes the filter; the apps are selected before.
func (f *ResultsFilter) matches(r *tasks.Result) bool {
	if len(f.Type) > 0 && !slices.Contains(f.Type, taskType(r.Type)) || f.Batch != "" && f.Batch != r.Batch {
		return false
	}
	outcomes := len(f.Outcome)+len(f.ErrCode) > 0
	if r.IsReceipt() {
		return slices.Contains(f.Receipt, receiptName(r.Receipt)) || len(f.Receipt) == 0 && !outcomes
	}
	return (outcomes || len(f.Receipt) == 0) &&
		(len(f.Outcome) == 0 || slices.Contains(f.Outcome, outcomeName(r.Outcome))) &&
		(len(f.ErrCode) == 0 || slices.Contains(f.ErrCode, r.ErrCode))
}

type resultsInput struct {
	ResultsFilter
	Since  timeParam `query:"since" doc:"Only results since then: a duration such as 90m, or a time."`
	Until  timeParam `query:"until" doc:"Only results before then."`
	Cursor string    `query:"cursor" maxLength:"32768" doc:"Goes on after an earlier page. It replaces since for the apps of that page."`
	Limit  int       `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of a page."`
	Format string    `query:"format" enum:"json,jsonl,csv" doc:"Default: by the header Accept, or json."`
	Accept string    `header:"Accept" hidden:"true"`
}

// resultsPage is a page of results as JSON.
type resultsPage struct {
	Items  []tasks.Result `json:"items" nullable:"false"`
	Cursor string         `json:"cursor" doc:"The position after the page."`
	More   bool           `json:"more" doc:"There may be further results now."`
	Gaps   []gap          `json:"gaps,omitempty" doc:"Results that were asked for and are no longer kept."`
}

// gap says from which time on the results of an app are kept.
type gap struct {
	App      string    `json:"app"`
	Start    time.Time `json:"start" doc:"The results go back to this time."`
	ByLength bool      `json:"by_length" doc:"results.stream_max_len has removed the earlier ones, before results.retention has passed."`
}

type resultsOutput struct {
	ContentType string `header:"Content-Type"`
	Cursor      string `header:"Wxcourier-Cursor" doc:"As the field cursor."`
	More        bool   `header:"Wxcourier-More" doc:"As the field more."`
	Gaps        string `header:"Wxcourier-Gaps" doc:"As the field gaps, as JSON."`
	Body        []byte
}

func (a *API) listResults(ctx context.Context, in *resultsInput) (*resultsOutput, error) {
	apps, err := a.selected(ctx, in.App)
	if err != nil {
		return nil, err
	}
	from, err := resultlog.ParseCursor(in.Cursor)
	if err != nil {
		return nil, problem.New(http.StatusUnprocessableEntity, "validation failed", problem.Fault{Location: "query.cursor", Message: "is not the cursor of a page"})
	}
	for _, app := range apps {
		if _, ok := from[app]; !ok && !in.Since.IsZero() {
			from[app] = resultlog.Since(in.Since.Time)
		}
	}
	page, err := a.resultReader.Read(ctx, resultlog.Query{
		Apps: apps, From: from, Until: in.Until.Time, Match: in.matches, Limit: in.Limit, Scan: resultsScan,
	})
	if err != nil {
		return nil, err
	}
	return writePage(in.format(), page)
}

// format returns the format that a request selects.
func (in *resultsInput) format() string {
	if in.Format != "" {
		return in.Format
	}
	for accepted := range strings.SplitSeq(in.Accept, ",") {
		media, _, _ := strings.Cut(accepted, ";")
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "text/csv":
			return "csv"
		case linesType, "application/jsonl":
			return "jsonl"
		case "application/json":
			return "json"
		}
	}
	return "json"
}

// writePage writes a page in a format.
func writePage(format string, page resultlog.Page) (*resultsOutput, error) {
	out := &resultsOutput{ContentType: "application/json", Cursor: page.Cursor.String(), More: page.More}
	gaps := gapsOf(page.Gaps)
	if len(gaps) > 0 {
		text, err := json.Marshal(gaps)
		if err != nil {
			return nil, err
		}
		out.Gaps = string(text)
	}
	var body bytes.Buffer
	var err error
	switch format {
	case "csv":
		out.ContentType = "text/csv; charset=utf-8"
		err = writeCSV(&body, page)
	case "jsonl":
		out.ContentType = linesType
		for _, e := range page.Entries {
			body.Write(append(e.Result.Encode(), '\n'))
		}
	default:
		whole := resultsPage{Items: make([]tasks.Result, len(page.Entries)), Cursor: out.Cursor, More: page.More, Gaps: gaps}
		for i, e := range page.Entries {
			whole.Items[i] = e.Result
		}
		encoder := json.NewEncoder(&body)
		encoder.SetEscapeHTML(false)
		err = encoder.Encode(whole)
	}
	out.Body = body.Bytes()
	return out, err
}

func writeCSV(body *bytes.Buffer, page resultlog.Page) error {
	table := resultcsv.NewWriter(body)
	for _, e := range page.Entries {
		if err := table.Write(e.Result); err != nil {
			return err
		}
	}
	return table.Flush()
}

func gapsOf(all []resultlog.Gap) (gaps []gap) {
	for _, g := range all {
		gaps = append(gaps, gap{g.App, g.Start, g.ByLength})
	}
	return gaps
}

// resultsResponses describes the formats of a page.
func resultsResponses(a *API) map[string]*huma.Response {
	text := func(what string) *huma.MediaType {
		return &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: what}}
	}
	return map[string]*huma.Response{"200": {Description: "A page of results.", Content: map[string]*huma.MediaType{
		"application/json": {Schema: schemaOf[resultsPage](a), Example: map[string]any{
			"items": []any{exampleResult()}, "more": false,
			"cursor": resultlog.Cursor{"wx0123456789abcdef": {MS: 1_796_083_201_000}}.String(),
		}},
		linesType:  text("A result a line."),
		"text/csv": text("A header and a result a line: the columns of `wxcourier results --csv`."),
	}}}
}

// exampleResult is the result of the examples in the OpenAPI document.
func exampleResult() map[string]any {
	return map[string]any{
		"id": "order-42-shipped", "app": "wx0123456789abcdef", "type": tasks.TypeSubscribe, "batch": "spring-sale",
		"state": "done", "outcome": "accepted", "errcode": 0, "errmsg": "ok", "rid": "", "attempts": 1,
		"msgid": "3395159288267931652", "enqueued_at": "2026-12-01T00:00:00Z", "finished_at": "2026-12-01T00:00:01Z",
	}
}
