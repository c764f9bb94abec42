// Package docs serves the page of the API: Swagger UI, embedded, which reads /openapi.json. It
// makes no request to another host and works under a strict Content-Security-Policy.
//
// The files swagger-ui-* are those of swagger-ui-dist 5.35.0, unchanged, see assets/LICENSE and
// assets/NOTICE.
package docs

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io"
	"net/http"
	"path"
	"strings"

	"github.com/wxcourier/wxcourier/internal/problem"
)

//go:embed assets
var assets embed.FS

// policy is the Content-Security-Policy. Swagger UI sets styles of elements by script, which needs
// no 'unsafe-inline', and has its icons as data.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// mediaTypes are those of the files.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
	".txt": "text/plain; charset=utf-8", "": "text/plain; charset=utf-8",
}

// Handler returns the handler of /docs/ and what is below it.
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/docs/")
	if name == "" {
		name = "index.html"
	}
	content, compressed, ok := read(name)
	if !ok {
		problem.New(http.StatusNotFound, "no such file").Write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Content-Type", mediaTypes[path.Ext(name)])
	header.Set("Cache-Control", "no-cache") // but with the ETag
	header.Set("Vary", "Accept-Encoding")
	sum := sha256.Sum256(content)
	tag := hex.EncodeToString(sum[:8])
	if compressed && !acceptsGzip(r) {
		plain, err := expand(content)
		if err != nil { // the files are tested
			problem.New(http.StatusInternalServerError, "").Write(w)
			return
		}
		content, compressed, tag = plain, false, tag+"-plain"
	}
	if header.Set("ETag", `"`+tag+`"`); r.Header.Get("If-None-Match") == `"`+tag+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if compressed {
		header.Set("Content-Encoding", "gzip")
	}
	_, _ = w.Write(content) // the client may have gone
}

// read returns a file, and whether it is compressed.
func read(name string) (content []byte, compressed, ok bool) {
	if content, err := assets.ReadFile("assets/" + name); err == nil && !strings.HasSuffix(name, ".gz") {
		return content, false, true
	}
	content, err := assets.ReadFile("assets/" + name + ".gz")
	return content, true, err == nil
}

func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if name == "gzip" && strings.TrimSpace(weight) != "q=0" {
			return true
		}
	}
	return false
}

func expand(content []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
