package monitor

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
	"sync"

	"github.com/wxcourier/wxcourier/internal/problem"
)

//go:embed pages
var pageFiles embed.FS

// pages and styles read what is embedded, once.
var (
	pages = sync.OnceValue(func() *template.Template {
		return template.Must(template.ParseFS(pageFiles, "pages/*.html"))
	})
	styles = sync.OnceValue(func() *file {
		content, err := pageFiles.ReadFile("pages/wxcourier.css")
		if err != nil {
			panic(err) // it is embedded
		}
		f, err := newFile("text/css; charset=utf-8", content)
		if err != nil {
			panic(err) // compression into memory
		}
		return f
	})
)

// helpPolicy is the Content-Security-Policy of our own pages.
const helpPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// language is a language of our pages. asynqmon's own is English.
type language string

const (
	english language = "en"
	chinese language = "zh-CN"
)

func languages() []language { return []language{english, chinese} }

// languageOf returns the language of the console: that of its switch or, else, the browser's.
func languageOf(r *http.Request) language {
	if cookie, err := r.Cookie(languageCookie); err == nil {
		switch cookie.Value {
		case "zh":
			return chinese
		case "en":
			return english
		}
	}
	for tag := range strings.SplitSeq(r.Header.Get("Accept-Language"), ",") {
		switch tag = strings.ToLower(strings.TrimSpace(tag)); {
		case strings.HasPrefix(tag, "zh"):
			return chinese
		case strings.HasPrefix(tag, "en"):
			return english
		}
	}
	return english
}

// languageCookie is the cookie of the console's switch.
const languageCookie = "wxcourier_language"

// view is the data of our pages.
type view struct {
	Lang language
	Full bool   // the page changes something
	Help bool   // it is the explanation
	Text string // of a refusal
	CSS  string
}

// Chinese is for templates.
func (v view) Chinese() bool { return v.Lang == chinese }

// serveHelp explains what the buttons of the asynq web UI do to a task of ours.
func serveHelp(w http.ResponseWriter, r *http.Request, full bool) {
	writeView(w, r, "help", http.StatusOK, view{Lang: languageOf(r), Full: full, Help: true})
}

func writeView(w http.ResponseWriter, r *http.Request, name string, status int, v view) {
	var page bytes.Buffer
	v.CSS = cssPath + "?v=" + styles().tag
	if err := pages().ExecuteTemplate(&page, name, v); err != nil {
		panic(err) // the templates are tested
	}
	writePage(w, r, helpPolicy, status, page.Bytes())
}

// refusal is why a request is refused.
type refusal struct{ english, chinese string }

// serve answers a browser with a page, and a program with a problem.
func (c *refusal) serve(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || strings.HasPrefix(r.URL.Path, apiPath) || !strings.Contains(r.Header.Get("Accept"), "text/html") {
		problem.New(http.StatusForbidden, c.english).Write(w)
		return
	}
	v := view{Lang: languageOf(r), Text: c.english}
	if v.Chinese() {
		v.Text = c.chinese
	}
	writeView(w, r, "refused", http.StatusForbidden, v)
}
