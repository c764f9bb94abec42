package docs_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/gateway/docs"
)

func get(t *testing.T, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	docs.Handler().ServeHTTP(w, r)
	return w
}

// The page and all that it names are there, and none of it is of another host: neither in the page
// nor in the script of our own nor in the style sheet.
func TestPageIsComplete(t *testing.T) {
	index := get(t, "/docs/")
	if index.Code != http.StatusOK || !strings.Contains(index.Header().Get("Content-Security-Policy"), "script-src 'self';") {
		t.Fatalf("%d %v", index.Code, index.Header())
	}
	page := index.Body.String()
	for _, text := range []string{page, get(t, "/docs/initializer.js").Body.String()} {
		if strings.Contains(text, "://") || strings.Contains(text, "<script>") || strings.Contains(text, "style=") {
			t.Errorf("not allowed by the policy: %s", text)
		}
	}
	if css := get(t, "/docs/swagger-ui.css").Body.String(); regexp.MustCompile(`url\(['"]?(https?:|//)|@import`).MatchString(css) {
		t.Error("the style sheet loads something from outside")
	}
	for _, file := range regexp.MustCompile(`(?:src|href)="([a-z][a-z.-]+)"`).FindAllStringSubmatch(page, -1) {
		if w := get(t, "/docs/"+file[1]); w.Code != http.StatusOK || w.Body.Len() == 0 {
			t.Errorf("%s: %d", file[1], w.Code)
		}
	}
}

func TestCompression(t *testing.T) {
	plain := get(t, "/docs/swagger-ui-bundle.js", "Accept-Encoding", "br, gzip;q=0")
	packed := get(t, "/docs/swagger-ui-bundle.js", "Accept-Encoding", "br, gzip")
	if plain.Header().Get("Content-Encoding") != "" || packed.Header().Get("Content-Encoding") != "gzip" || packed.Body.Len() > 500_000 {
		t.Fatalf("%v, %v, %d bytes", plain.Header(), packed.Header(), packed.Body.Len())
	}
	r, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || !bytes.Equal(text, plain.Body.Bytes()) || !bytes.Contains(text, []byte("SwaggerUIBundle")) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if w := get(t, "/docs/", "If-None-Match", get(t, "/docs/").Header().Get("ETag")); w.Code != http.StatusNotModified {
		t.Errorf("with the ETag: %d", w.Code)
	}
	for _, path := range []string{"/docs/nothing", "/docs/../docs.go", "/docs/swagger-ui.css.gz.gz"} {
		if w := get(t, path); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
