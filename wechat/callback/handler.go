package callback

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// DefaultMaxBody is the maximum size of a push, in bytes. WeChat's own have some thousand.
const DefaultMaxBody = 1 << 20

// Handler answers WeChat's requests to a callback URL. It is a http.Handler; its fields must not change
// while it serves.
type Handler struct {
	Keys Keys
	// Push handles a push within 5 s. It returns a passive reply (被动回复) in the format of the message,
	// or none. After an error the answer is status 500, and WeChat pushes again. Repetitions are not
	// dropped: see Push.Identity.
	Push func(ctx context.Context, m Message, p Push) (reply []byte, err error)

	MaxBody int64         // of a push, in bytes; 0: DefaultMaxBody
	MaxAge  time.Duration // see CheckAge; 0: DefaultMaxAge
}

// ServeHTTP implements http.Handler. Its answers to other requests than those of WeChat say nothing
// about the keys.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	maxAge := h.MaxAge
	if maxAge == 0 {
		maxAge = DefaultMaxAge
	}
	if err := CheckAge(query, time.Now(), maxAge); err != nil {
		http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
		return
	}
	switch r.Method {
	case http.MethodGet:
		if h.Keys.VerifyQuery(query) != nil {
			http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
			return
		}
		WriteEcho(w, query.Get("echostr"))
	case http.MethodPost:
		h.push(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, http.StatusText(http.StatusMethodNotAllowed), http.StatusMethodNotAllowed)
	}
}

// WriteEcho answers the request that verifies the URL with its parameter echostr, as plain text.
func WriteEcho(w http.ResponseWriter, echostr string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = io.WriteString(w, echostr) //nolint:gosec // plain text, which browsers are told not to guess about
}

func (h *Handler) push(w http.ResponseWriter, r *http.Request) {
	limit := h.MaxBody
	if limit == 0 {
		limit = DefaultMaxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		status := http.StatusBadRequest
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, http.StatusText(status), status)
		return
	}
	m, err := h.Keys.Open(r.URL.Query(), body)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusForbidden), http.StatusForbidden)
		return
	}
	p, err := Parse(m.Body)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	reply, err := h.Push(r.Context(), m, p)
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	answer, contentType, err := h.Keys.Reply(m, reply, time.Now())
	if err != nil {
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(answer) //nolint:gosec // for WeChat, no browser: the push was signed
}
