package monitor

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
)

// patch is a change to asynqmon's script. TestPatches checks that each applies.
type patch struct {
	old, new string
	reason   string
}

func patches() []patch {
	return []patch{
		{
			`{var t=e.indexOf("-");return-1===t?e:e.substr(0,t)}`, `{return e.replace(/^wx[0-9a-f]{16}:/,"")}`,
			"lists cut ids at the first dash, since asynq's own are UUIDs; ours would become wx…:f. Their app is that of the queue",
		},
		{
			`children:t.max_retry}`, `children:t.max_retry>1e6?"∞":t.max_retry}`,
			"our tasks have asynq's retry limit 1,000,001: wxcourier counts attempts itself",
		},
		{
			`void 0===u?void 0:u.max_retry]`, `void 0===u?void 0:u.max_retry>1e6?"∞":u.max_retry]`,
			"the same on the page of a task",
		},
	}
}

var sourceMap = regexp.MustCompile(`\n?//# sourceMappingURL=\S+\s*$`)

// assets are asynqmon's files, each compressed when it is first asked for.
type assets struct {
	source http.Handler // asynqmon
	mu     sync.Mutex   // guards files
	files  map[string]*file
}

// file is a file as it is sent.
type file struct {
	mediaType  string
	tag        string // of its content
	content    []byte // as it is or, if compressed, as gzip
	compressed bool
}

// get returns a file, fs.ErrNotExist for any other path. Source maps are not served: they are 5 MB,
// and show nothing of ours.
func (a *assets) get(name string) (*file, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.files[name]; ok {
		return f, nil
	}
	switch path.Ext(name) {
	case ".js", ".svg", ".png", ".ico", ".txt":
	default:
		return nil, fs.ErrNotExist
	}
	content, mediaType, err := a.read(name)
	if err != nil {
		return nil, err
	}
	f, err := newFile(mediaType, content)
	if err != nil {
		return nil, err
	}
	if a.files == nil {
		a.files = make(map[string]*file)
	}
	a.files[name] = f
	return f, nil
}

// read returns the content of a file. asynqmon answers a path that it does not know with its page.
func (a *assets) read(name string) (content []byte, mediaType string, err error) {
	answer := record(a.source, name)
	mediaType = answer.Header().Get("Content-Type")
	if answer.code != http.StatusOK {
		return nil, "", fmt.Errorf("asynqmon answers %s with status %d", name, answer.code)
	}
	content = answer.body.Bytes()
	if bytes.HasPrefix(content, []byte("<!doctype html>")) {
		return nil, "", fs.ErrNotExist
	}
	switch path.Ext(name) {
	case ".svg":
		mediaType = "image/svg+xml"
	case ".js":
		mediaType = "text/javascript; charset=utf-8"
		for _, p := range patches() {
			content = bytes.ReplaceAll(content, []byte(p.old), []byte(p.new))
		}
		content = sourceMap.ReplaceAll(content, nil)
	}
	return content, mediaType, nil
}

// newFile returns a file, compressed if that makes it smaller.
func newFile(mediaType string, content []byte) (*file, error) {
	sum := sha256.Sum256(content)
	f := &file{mediaType: mediaType, tag: hex.EncodeToString(sum[:8]), content: content}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if packed.Len() < len(content)*9/10 {
		f.content, f.compressed = packed.Bytes(), true
	}
	return f, nil
}

// serve answers with a file. A request with its tag in the query, as our page makes them, never needs
// to be repeated.
func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Type", f.mediaType)
	header.Set("Vary", "Accept-Encoding")
	if r.URL.Query().Get("v") == f.tag {
		header.Set("Cache-Control", "private, max-age=31536000, immutable")
	} else {
		header.Set("Cache-Control", "private, no-cache") // but with the ETag
	}
	content, tag := f.content, f.tag
	if f.compressed && !acceptsGzip(r) {
		plain, err := expand(content)
		if err != nil {
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
			return
		}
		content, tag = plain, tag+"-plain"
	} else if f.compressed {
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("ETag", `"`+tag+`"`)
	if strings.Contains(r.Header.Get("If-None-Match"), `"`+tag+`"`) {
		header.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Length", fmt.Sprint(len(content)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(content) //nolint:gosec // an embedded file; and the client may have gone
	}
}

func expand(packed []byte) ([]byte, error) {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(reader)
	return plain, errors.Join(err, reader.Close())
}

// acceptsGzip reports whether the client takes gzip.
func acceptsGzip(r *http.Request) bool {
	for coding := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			return strings.Trim(strings.ReplaceAll(weight, " ", ""), "0.") != "q="
		}
	}
	return false
}
