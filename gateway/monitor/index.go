package monitor

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
)

// noncePlaceholder stands in an index where the nonce of an answer comes.
const noncePlaceholder = "NONCE-OF-THE-ANSWER"

// dataPolicy is the Content-Security-Policy of what is no page.
const dataPolicy = "default-src 'none'; frame-ancestors 'none'"

// indexPolicy is the Content-Security-Policy of asynqmon's page. The nonce is that of its two inline
// scripts, and of the style elements that its library of styles makes (by the meta csp-nonce).
const indexPolicy = "default-src 'none'; script-src 'self' 'nonce-%[1]s'; style-src 'self' 'nonce-%[1]s'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

var (
	outsideLink = regexp.MustCompile(`<link [^>]*href="https?://[^>]*>`)
	// A browser asks for a manifest without the session.
	manifestLink = regexp.MustCompile(`<link rel="manifest"[^>]*>`)
	localFile    = regexp.MustCompile(`(href|src)="(/[^"?]+)"`)
)

// index is asynqmon's page as we serve it, by language.
type index struct {
	pages map[language][]byte // with placeholders
}

// newIndex makes the page from asynqmon's own: without what it loads from other hosts, with tags in the
// addresses of files, a nonce for its inline scripts, and our bar.
func newIndex(asynqmon http.Handler, files *assets, full bool) (*index, error) {
	answer := record(asynqmon, Root)
	page := answer.body.String()
	for _, mark := range []string{"</head>", `<div id="root">`, "<script>"} {
		if answer.code != http.StatusOK || !strings.Contains(page, mark) {
			return nil, fmt.Errorf("monitor: asynqmon's page (status %d) has no %s", answer.code, mark)
		}
	}
	page = outsideLink.ReplaceAllString(page, "")
	page = manifestLink.ReplaceAllString(page, "")
	var errs []error
	page = localFile.ReplaceAllStringFunc(page, func(link string) string {
		attribute, name, _ := strings.Cut(strings.TrimSuffix(link, `"`), `="`)
		f, err := files.get(name)
		if err != nil {
			errs = append(errs, fmt.Errorf("monitor: %s: %w", name, err))
			return link
		}
		return fmt.Sprintf(`%s="%s?v=%s"`, attribute, name, f.tag)
	})
	page = strings.ReplaceAll(page, "<script>", `<script nonce="`+noncePlaceholder+`">`)
	page = strings.Replace(page, "</head>", `<meta property="csp-nonce" content="`+noncePlaceholder+`">`+
		`<link rel="stylesheet" href="`+cssPath+"?v="+styles().tag+`"></head>`, 1)
	page = strings.Replace(page, "<title>Asynq - Monitoring</title>", "<title>asynq · wxcourier</title>", 1)
	x := &index{pages: make(map[language][]byte)}
	for _, lang := range languages() {
		var bar bytes.Buffer
		errs = append(errs, pages().ExecuteTemplate(&bar, "bar", view{Lang: lang, Full: full}))
		x.pages[lang] = []byte(strings.Replace(page, `<div id="root">`, bar.String()+`<div id="root">`, 1))
	}
	return x, errors.Join(errs...)
}

// serveIndex answers with the page.
func (m *Monitor) serveIndex(w http.ResponseWriter, r *http.Request, x *index) {
	nonce := rand.Text()
	w, done := m.compressed(w, r)
	defer done()
	writePage(w, r, fmt.Sprintf(indexPolicy, nonce), http.StatusOK,
		bytes.ReplaceAll(x.pages[languageOf(r)], []byte(noncePlaceholder), []byte(nonce)))
}

// writePage answers with a page.
func writePage(w http.ResponseWriter, r *http.Request, policy string, status int, page []byte) {
	header := w.Header()
	header.Set("Content-Security-Policy", policy)
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(page) // the client may have gone
	}
}
