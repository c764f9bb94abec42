package proxy

import (
	"errors"
	"net/http"
	"strings"

	"github.com/wxcourier/wxcourier/internal/tracing"
	"github.com/wxcourier/wxcourier/tasks"
)

// prefersAsync reports whether a client wants a request only to be enqueued (RFC 7240).
func prefersAsync(h http.Header) bool {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			name, _, _ := strings.Cut(preference, ";")
			if strings.EqualFold(strings.TrimSpace(name), "respond-async") {
				return true
			}
		}
	}
	return false
}

// enqueuedAnswer is the answer to a request that was enqueued.
type enqueuedAnswer struct {
	ErrCode int      `json:"errcode"`
	ErrMsg  string   `json:"errmsg"`
	Task    taskName `json:"task"`
}

// taskName is where the gateway's API has a task: /v1/tasks/{app}/{id}.
type taskName struct {
	App string `json:"app"`
	ID  string `json:"id"`
}

// enqueue makes a task of a request, whose id is the Idempotency-Key. A task that has ended is
// answered with its outcome.
func (p *Proxy) enqueue(w http.ResponseWriter, r *http.Request, e endpoint, request Request) error {
	envelope := tasks.Envelope{Type: e.spec.Type, App: request.App, ID: r.Header.Get("Idempotency-Key"), Body: request.Body}
	envelope.TraceParent = tracing.TraceParent(r.Context())
	if envelope.ID != "" && !tasks.ValidID(envelope.ID) {
		return errIdempotencyKey
	}
	receipt, err := p.deps.Tasks.Submit(r.Context(), envelope)
	var invalid *tasks.ValidationError
	switch {
	case errors.As(err, &invalid):
		return errContent.because("%s", invalid.Error())
	case errors.Is(err, tasks.ErrIDInUse), receipt.Differs:
		return errKeyReused
	case err != nil:
		return errRedis
	case receipt.Done && e.message():
		result, err := p.deps.Tasks.Recorded(r.Context(), receipt.App, receipt.ID)
		if err != nil {
			return errRedis
		}
		return writeResult(w, result)
	}
	w.Header().Set("Preference-Applied", "respond-async")
	w.Header().Set("Location", "/v1/tasks/"+receipt.App+"/"+receipt.ID)
	writeJSON(w, http.StatusAccepted, enqueuedAnswer{ErrMsg: "ok", Task: taskName{receipt.App, receipt.ID}})
	return nil
}
