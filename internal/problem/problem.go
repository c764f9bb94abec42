// Package problem writes errors of an HTTP API in the form of RFC 9457
// (application/problem+json). A problem never contains a value of the request: only where it is
// and what is wrong with it.
package problem

import (
	"encoding/json"
	"net/http"
)

// ContentType is the media type of a Problem.
const ContentType = "application/problem+json"

// A Problem is one error answer.
type Problem struct {
	Type   string  `json:"type,omitempty"` // a URI that identifies the kind; "": about:blank
	Title  string  `json:"title"`          // the text of the status
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty"` // what is wrong, and how to fix it
	Errors []Fault `json:"errors,omitempty"` // each fault of the request
}

// A Fault is one fault of a request.
type Fault struct {
	Location string `json:"location,omitempty"` // such as "body.data.thing1" or "query.since"
	Message  string `json:"message"`
}

// New returns a problem with the title of its status.
func New(status int, detail string, faults ...Fault) *Problem {
	return &Problem{Title: http.StatusText(status), Status: status, Detail: detail, Errors: faults}
}

// Error returns the detail, or the title.
func (p *Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

// Write sends the problem as the answer.
func (p *Problem) Write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may have gone
}

// GetStatus returns the status, for huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType returns the media type, for huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return ContentType }
