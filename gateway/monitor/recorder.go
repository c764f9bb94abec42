package monitor

import (
	"bytes"
	"net/http"
)

// recorder keeps an answer of asynqmon's handler.
type recorder struct {
	header http.Header
	body   bytes.Buffer
	code   int
}

// record returns the answer of a handler to a GET request for a path.
func record(handler http.Handler, path string) *recorder {
	r := &recorder{header: http.Header{}, code: http.StatusOK}
	request, _ := http.NewRequest(http.MethodGet, "/", http.NoBody) //nolint:noctx // answered from memory; cannot fail
	request.URL.Path = path
	handler.ServeHTTP(r, request)
	return r
}

// Header implements http.ResponseWriter.
func (r *recorder) Header() http.Header { return r.header }

// WriteHeader implements http.ResponseWriter.
func (r *recorder) WriteHeader(code int) { r.code = code }

// Write implements http.ResponseWriter.
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
