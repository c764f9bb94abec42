package console

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed static
var staticFiles embed.FS

// static are the files of static/. The path of each has a hash of its content, so that browsers keep
// it for good.
type static struct {
	paths map[string]string // by the name of the file
	files map[string]staticFile
}

type staticFile struct {
	content, zipped []byte
	kind, etag      string
}

func readStatic() (*static, error) {
	s := &static{paths: make(map[string]string), files: make(map[string]staticFile)}
	entries, err := fs.ReadDir(staticFiles, "static")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		content, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(content)
		hash := hex.EncodeToString(sum[:6])
		ext := path.Ext(e.Name())
		name := strings.TrimSuffix(e.Name(), ext) + "." + hash + ext
		f := staticFile{content: content, kind: mime.TypeByExtension(ext), etag: `"` + hash + `"`}
		if f.zipped, err = zip(content); err != nil {
			return nil, err
		}
		s.paths[e.Name()], s.files[name] = "/static/"+name, f
	}
	return s, nil
}

func zip(content []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(content); err != nil {
		return nil, err
	}
	err = w.Close()
	return b.Bytes(), err
}

// path returns the path of a file, for templates.
func (s *static) path(name string) (string, error) {
	if p, ok := s.paths[name]; ok {
		return p, nil
	}
	return "", fmt.Errorf("console: no file static/%s", name)
}

// serve answers a request for a file. It needs no key.
func (s *static) serve(w http.ResponseWriter, r *http.Request) {
	f, ok := s.files[r.PathValue("file")]
	if !ok { // of another version of the gateway
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Cache-Control", "public, max-age=31536000, immutable")
	header.Set("ETag", f.etag)
	header.Set("Vary", "Accept-Encoding")
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header.Set("Content-Type", f.kind)
	header.Set("X-Content-Type-Options", "nosniff")
	content := f.content
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		header.Set("Content-Encoding", "gzip")
		content = f.zipped
	}
	header.Set("Content-Length", strconv.Itoa(len(content)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(content) // the reader may have gone
	}
}
