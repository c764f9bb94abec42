package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

//go:embed templates/*.html
var templateFiles embed.FS

// policy lets the pages load nothing from elsewhere, and no inline script or style. (A style
// attribute is refused too: sizes are attributes of SVG.)
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// views are the parsed templates, by language and page.
type views struct {
	texts texts
	nav   []page
	pages map[language]map[string]*template.Template
}

// view is what a template gets.
type view struct {
	Name  string // of the page
	Lang  language
	Nav   []page
	Key   string // id of the key
	Path  string
	Now   time.Time
	Data  any
	Scope func(scope string) bool // of the key
}

// parseViews parses the templates of all pages: layout.html, parts.html (what several pages use) and
// the page's own, which defines "main".
func parseViews(pages []page) (*views, error) {
	v := &views{pages: make(map[language]map[string]*template.Template)}
	var err error
	if v.texts, err = readTexts(); err != nil {
		return nil, err
	}
	names := []string{"fault"}
	for _, p := range pages {
		names = append(names, p.name)
		if p.nav {
			v.nav = append(v.nav, p)
		}
	}
	for _, lang := range languages() {
		v.pages[lang] = make(map[string]*template.Template)
		for _, name := range names {
			t, err := template.New("layout.html").Funcs(v.funcs(lang)).
				ParseFS(templateFiles, "templates/layout.html", "templates/parts.html", "templates/"+name+".html")
			if err != nil {
				return nil, fmt.Errorf("console: %w", err)
			}
			v.pages[lang][name] = t
		}
	}
	return v, nil
}

// funcs are the functions of the templates in a language.
func (v *views) funcs(lang language) template.FuncMap {
	return template.FuncMap{
		"t":    func(id string, args ...any) (string, error) { return v.texts.in(lang, id, args...) },
		"time": func(t time.Time) string { return t.In(calendar.Shanghai()).Format("2006-01-02 15:04:05") },
	}
}

func (v *views) write(w http.ResponseWriter, r *request, p page, status int, data any) {
	v.execute(w, r, p.name, status, data)
}

func (v *views) writeFault(w http.ResponseWriter, r *request, f *fault) {
	text, err := v.texts.in(r.lang, f.text, f.args...)
	if err != nil {
		text = f.text
	}
	v.execute(w, r, "fault", f.status, text)
}

// execute writes a whole page.
func (v *views) execute(w http.ResponseWriter, r *request, name string, status int, data any) {
	var page bytes.Buffer
	err := v.pages[r.lang][name].Execute(&page, view{
		Name: name, Lang: r.lang, Nav: v.nav, Key: r.key.ID, Path: r.URL.Path, Now: r.now, Data: data,
		Scope: func(scope string) bool { return r.key.Allows(apikeyScope(scope)) },
	})
	if err != nil {
		r.console.Log.Error("a page could not be written", "page", name, "err", err)
		http.Error(w, "the page failed; the log of the gateway has the reason", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the reader may have gone
}
