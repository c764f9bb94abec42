package api

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// bodyTimeout is how long a client may take to send a body that is read whole, and how long it may
// pause while it sends another one.
const bodyTimeout = 30 * time.Second

// rawBody is the part of an input that reads the whole body of the request, without decoding it.
type rawBody struct {
	text []byte
}

// maxBody is the maximum size of a body that is read whole: that of a task with an image.
const maxBody = 2 << 20

// Resolve implements huma.Resolver.
func (b *rawBody) Resolve(ctx huma.Context) []error {
	stream := openBody(ctx)
	stream.whole = true
	defer stream.release()
	limit := int64(maxBody)
	if key := apikey.FromContext(ctx.Context()); key != nil && key.MaxBody > 0 {
		limit = min(limit, key.MaxBody)
	}
	var text bytes.Buffer
	if size := stream.request.ContentLength; size > 0 && size <= limit {
		text.Grow(int(size) + bytes.MinRead)
	}
	_, err := text.ReadFrom(io.LimitReader(stream, limit+1))
	switch {
	case err != nil:
		return []error{bodyProblem(err)}
	case int64(text.Len()) > limit:
		return []error{tooLarge(limit)}
	case text.Len() == 0:
		return []error{problem.New(http.StatusBadRequest, "the body is empty; it must be a task as JSON")}
	}
	b.text = text.Bytes()
	return nil
}

// bodyStream is the body of a request, decompressed. A read fails after bodyTimeout.
type bodyStream struct {
	request *http.Request
	control *http.ResponseController
	body    io.Reader // nil until the first read
	readErr error     // of a read, other than the end
	extends time.Time // when the deadline is set again
	whole   bool      // it is not set again
}

func openBody(ctx huma.Context) *bodyStream {
	r, w := humago.Unwrap(ctx)
	return &bodyStream{request: r, control: http.NewResponseController(w)}
}

// Read implements io.Reader.
func (s *bodyStream) Read(p []byte) (int, error) {
	if now := time.Now(); s.extends.IsZero() || !s.whole && now.After(s.extends) {
		_ = s.control.SetReadDeadline(now.Add(bodyTimeout)) // a writer that cannot do this has no deadlines
		s.extends = now.Add(bodyTimeout / 10)
	}
	if s.readErr == nil && s.body == nil {
		s.body, s.readErr = decoded(s.request)
	}
	if s.readErr != nil {
		return 0, s.readErr
	}
	n, err := s.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.readErr = err
	}
	return n, err
}

// release removes the deadline of reads: net/http reads on in the background, and would end the
// context of a request that waits for longer.
func (s *bodyStream) release() { _ = s.control.SetReadDeadline(time.Time{}) }

// decoded returns the body of a request without its Content-Encoding.
func decoded(r *http.Request) (io.Reader, error) {
	switch coding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		return r.Body, nil
	case "gzip", "x-gzip":
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, err
		}
		return unzipped, nil
	}
	return nil, problem.New(http.StatusUnsupportedMediaType, "Content-Encoding must be gzip, or left out")
}

func tooLarge(limit int64) *problem.Problem {
	return problem.New(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is too large; at most %d bytes are allowed", limit))
}

// bodyProblem returns the problem for a failed read of a body.
func bodyProblem(err error) *problem.Problem {
	var own *problem.Problem
	var large *http.MaxBytesError
	var network net.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return problem.New(http.StatusBadRequest, "the body is not valid gzip")
	case errors.As(err, &network) && network.Timeout():
		return problem.New(http.StatusRequestTimeout, fmt.Sprintf("the body did not come within %d s", int(bodyTimeout/time.Second)))
	}
	return problem.New(http.StatusBadRequest, "the body broke off")
}
