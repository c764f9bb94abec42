package proxy

import (
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// The largest bodies of requests, in bytes, unless the key has another maximum. WeChat takes images
// of up to 10 MB in uploads.
const (
	maxBody   = 2 << 20
	maxUpload = 11 << 20
)

// readBody reads the body of a request.
func readBody(w http.ResponseWriter, r *http.Request, key *apikey.Key) ([]byte, error) {
	limit := int64(maxBody)
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && kind == "multipart/form-data" {
		limit = maxUpload
	}
	if key.MaxBody > 0 {
		limit = key.MaxBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, errBody
	}
	return body, nil
}
