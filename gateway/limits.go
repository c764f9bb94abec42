package gateway

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/gateway/console"
	"github.com/wxcourier/wxcourier/internal/problem"
)

const (
	// stallTimeout is how long a client may stand still while it sends a request or reads the
	// answer.
	stallTimeout = 30 * time.Second
	// extendEvery is how often the deadline moves while bytes come.
	extendEvery = stallTimeout / 10
	// maxBody is the maximum size of a body whose key has no other; a batch has none.
	maxBody = 16 << 20
	// batchPath is read as a stream, and may be of any length.
	batchPath = "/v1/tasks:batch"
)

// limited limits the sizes of requests, and ends those whose client stands still. Requests that
// wait for something, and streams of events, take as long as they do.
func limited(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e := exchangeOf(r.Context())
		control := http.NewResponseController(e.answer.ResponseWriter)
		// The previous request of the connection left its own.
		_ = control.SetWriteDeadline(time.Time{}) // a writer that cannot do this has none
		if r.Body != nil && r.Body != http.NoBody {
			// Also for a body that nothing reads: net/http reads the rest of it.
			e.body = &body{source: r.Body, control: control, answer: e.answer.ResponseWriter}
			e.body.extend(time.Now())
			r.Body = e.body
			switch r.URL.Path {
			case batchPath:
			case console.UploadPath:
				e.body.limit = console.MaxUpload
			default:
				e.body.limit = maxBody
			}
		}
		next.ServeHTTP(w, r)
		_ = control.SetWriteDeadline(time.Now().Add(stallTimeout)) // of what is still buffered
	})
}

// limitBody limits the body of a request to the size that its key has, or to the default if that
// is 0. It refuses the request and returns false when the body is known to be larger.
func limitBody(w http.ResponseWriter, r *http.Request, size int64) bool {
	b := exchangeOf(r.Context()).body
	if b == nil {
		return true
	}
	if size > 0 {
		b.limit = size
	}
	if b.limit > 0 && r.ContentLength > b.limit {
		problem.New(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is too large; at most %d bytes are allowed", b.limit)).Write(w)
		return false
	}
	return true
}

// body is the body of a request. A read fails when the client stands still, and with a
// *http.MaxBytesError when the body is too large.
type body struct {
	source  io.ReadCloser
	control *http.ResponseController
	answer  http.ResponseWriter
	limit   int64 // 0: none
	limited io.ReadCloser
	extends time.Time // when the deadline moves
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.limited == nil {
		b.limited = b.source
		if b.limit > 0 {
			b.limited = http.MaxBytesReader(b.answer, b.source, b.limit)
		}
	}
	if now := time.Now(); !now.Before(b.extends) {
		b.extend(now)
	}
	n, err := b.limited.Read(p)
	if err != nil {
		// net/http reads on in the background, and ends the request's context at a deadline.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (b *body) extend(now time.Time) {
	_ = b.control.SetReadDeadline(now.Add(stallTimeout)) // a connection that cannot do this has none
	b.extends = now.Add(extendEvery)
}

// Close implements io.Closer.
func (b *body) Close() error { return b.source.Close() }
