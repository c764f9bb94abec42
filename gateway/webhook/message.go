package webhook

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// The types of messages.
const (
	typeResults = "results"
	typeGap     = "gap"
	typeTest    = "test"
)

const (
	maxResults = 50       // in a call
	maxBytes   = 18 << 10 // of the results in a call, unless one alone is larger
)

// batch is what a call sends, as it is stored before the call.
type batch struct {
	Type    string   `json:"type"`
	Message string   `json:"message"`           // webhook-id
	Entries []string `json:"entries,omitempty"` // ids
	End     string   `json:"end"`               // cursor once it is done
	Passed  int      `json:"passed"`            // entries up to there
	From    string   `json:"from,omitempty"`    // of a gap: cursor before it
	To      string   `json:"to,omitempty"`      // of a gap: id of the oldest entry after it, or of the last removed

	bodies []ledger.Entry // of Entries; nil: to be read
}

func newMessage() string { return "msg_" + rand.Text() }

// envelope is the body of a call.
type envelope struct {
	Type      string `json:"type"`
	Timestamp string `json:"timestamp"`
	Data      any    `json:"data"`
}

type resultsData struct {
	App     string            `json:"app"`
	Results []json.RawMessage `json:"results"`
}

type gapData struct {
	App  string `json:"app"`
	From string `json:"from,omitempty"` // time of the last result before the gap
	To   string `json:"to"`             // time of the first result after it
}

// body returns the body of a call, which depends on the batch and its entries alone.
func (b *batch) body(app string) []byte {
	if b.Type == typeGap {
		gap := gapData{App: app, To: timeText(b.To)}
		if b.From != "0-0" {
			gap.From = timeText(b.From)
		}
		return encode(envelope{typeGap, timeText(b.To), gap})
	}
	data := resultsData{App: app}
	for _, e := range b.bodies {
		data.Results = append(data.Results, json.RawMessage(e.Result))
	}
	return encode(envelope{typeResults, timeText(b.Entries[len(b.Entries)-1]), data})
}

// sample returns the body of a test call.
func sample(now time.Time) []byte {
	result := tasks.Result{
		ID: "webhook-test", App: "wx0000000000000000", Type: tasks.TypeSubscribe, State: tasks.StateDone, Outcome: tasks.OutcomeAccepted,
		ErrMsg: "ok", Attempts: 1, MsgID: "1000000000000000000", EnqueuedAt: now, FinishedAt: now,
	}
	return encode(envelope{typeTest, now.UTC().Format(time.RFC3339), resultsData{App: result.App, Results: []json.RawMessage{result.Encode()}}})
}

// encode cannot fail: the results are known to be valid.
func encode(e envelope) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(e)
	return bytes.TrimRight(b.Bytes(), "\n")
}

// timeText returns the time in the id of an entry.
func timeText(id string) string {
	return ledger.EntryTime(id).UTC().Format("2006-01-02T15:04:05.000Z")
}
