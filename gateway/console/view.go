package console

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
)

//go:embed templates/*.html
var templateFiles embed.FS

// policy lets the pages load nothing from elsewhere, and no inline script or style. (A style
// attribute is refused too: sizes are attributes of SVG.)
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// views are the parsed templates, by language and page.
type views struct {
	problems []problemText // in Chinese
	texts    texts
	static   *static
	nav      []page
	pages    map[language]map[string]*template.Template
}

// view is what a template gets.
type view struct {
	Name           string // of the page
	Lang           language
	Theme          theme
	Nav            []page
	Monitor, Start string // see Deps
	Key            string // id of the key; "": not signed in
	Local          bool   // there are no keys
	Token          string // of the forms
	Path           string
	Next           string // where a button of the header leads back to: the page itself
	Notices        []notice
	Now            time.Time
	Version        string
	Data           any
	Scope          func(scope string) bool // of the key
}

// parseViews parses the templates of all pages: layout.html, parts.html (what several pages use) and
// the page's own, which defines "main".
func parseViews(pages []page) (*views, error) {
	v := &views{pages: make(map[language]map[string]*template.Template)}
	var err error
	if v.texts, err = readTexts(); err != nil {
		return nil, err
	}
	if v.problems, err = readProblems(); err != nil {
		return nil, err
	}
	if v.static, err = readStatic(); err != nil {
		return nil, err
	}
	names := []string{"fault", "signin"}
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

// funcs are the functions of the templates in a language. parts.html describes them.
func (v *views) funcs(lang language) template.FuncMap {
	text := func(id string, args ...any) (string, error) { return v.texts.in(lang, id, args...) }
	return template.FuncMap{
		"t":        text,
		"number":   number,
		"percent":  percent,
		"duration": func(d any) (string, error) { return durationOf(lang, d) },
		"time":     func(t time.Time) template.HTML { return timeElement(t, dateTime(t), "") },
		"date": func(t time.Time) template.HTML {
			return timeElement(t, t.In(calendar.Shanghai()).Format(time.DateOnly), "")
		},
		"clock":    func(t time.Time) template.HTML { return timeElement(t, clock(time.Now(), t), dateTime(t)) },
		"ago":      func(t time.Time) template.HTML { return timeElement(t, ago(lang, time.Now(), t), dateTime(t)) },
		"until":    func(t time.Time) (template.HTML, error) { return v.until(lang, time.Now(), t) },
		"badge":    func(name any) (template.HTML, error) { return v.badge(lang, fmt.Sprint(name)) },
		"tag":      func(t, text string) template.HTML { return tag(tone(t), text) },
		"empty":    empty,
		"outcomes": tasks.Outcomes,
		"reason":   func(reason string) string { return cmp.Or(v.texts["reason."+reason][lang], reason) },
		"remedy":   func(reason string) string { return v.texts["remedy."+reason][lang] },
		"scope":    func(scope string) (string, error) { return v.scope(lang, scope) },
		"static":   v.static.path,
		"problem":  func(text string) string { return v.problem(lang, text) },
		"says": func(n notice) (string, error) {
			args := make([]any, len(n.Args))
			for i, arg := range n.Args {
				args[i] = arg
			}
			return text(n.Text, args...)
		},
	}
}

// timeElement returns a time as HTML, with a tooltip.
func timeElement(t time.Time, text, title string) template.HTML {
	if t.IsZero() {
		return none
	}
	if title != "" {
		title = ` title="` + template.HTMLEscapeString(title) + `"`
	}
	return template.HTML(`<time datetime="` + t.UTC().Format(time.RFC3339) + `"` + title + `>` + template.HTMLEscapeString(text) + `</time>`) //nolint:gosec // escaped
}

// until returns a time to come, which the script counts down.
func (v *views) until(lang language, now, t time.Time) (template.HTML, error) {
	if t.IsZero() {
		text, err := v.texts.in(lang, "until.lifted")
		return template.HTML(template.HTMLEscapeString(text)), err //nolint:gosec // escaped
	}
	text, err := v.texts.in(lang, "until.over")
	if left := t.Sub(now); left >= time.Second {
		text, err = v.texts.in(lang, "until.in", duration(lang, left))
	}
	return template.HTML(`<time class="until" data-until="` + fmt.Sprint(t.UnixMilli()) + `" datetime="` + t.UTC().Format(time.RFC3339) + //nolint:gosec // escaped
		`" title="` + dateTime(t) + `">` + template.HTMLEscapeString(text) + `</time>`), err
}

// badge returns an outcome or a place of a task with its color; others are shown as they are.
func (v *views) badge(lang language, name string) (template.HTML, error) {
	t, known := tones()[name]
	if !known {
		return tag(idle, orNone(name)), nil
	}
	text, err := v.texts.in(lang, "badge."+name)
	return tag(t, text), err
}

// empty returns what is shown in place of a list without elements.
func empty(text, hint string) template.HTML {
	if hint != "" {
		hint = `<p class="hint">` + template.HTMLEscapeString(hint) + `</p>`
	}
	return template.HTML(`<div class="empty"><p>` + template.HTMLEscapeString(text) + `</p>` + hint + `</div>`) //nolint:gosec // escaped
}

// scope returns what a hold stops.
func (v *views) scope(lang language, scope string) (string, error) {
	if scope == hold.WholeApp {
		return v.texts.in(lang, "scope.app")
	}
	if id, ok := strings.CutPrefix(scope, hold.TemplateScope("")); ok {
		return v.texts.in(lang, "scope.template", id)
	}
	if typ, ok := strings.CutSuffix(scope, hold.BulkScope("")); ok {
		return v.texts.in(lang, "scope.bulk", typ)
	}
	return scope, nil
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
	view, err := v.view(r, name, data)
	if err == nil {
		err = v.pages[r.lang][name].Execute(&page, view)
	}
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
	header.Set("Vary", "Accept, Accept-Language, Cookie")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the reader may have gone
}

// executeLive writes the part of a page that is sent again.
func (v *views) executeLive(w io.Writer, r *request, name string, data any) error {
	view, err := v.view(r, name, data)
	if err != nil {
		return err
	}
	return v.pages[r.lang][name].ExecuteTemplate(w, "live", view)
}

// view returns what a template gets for a request.
func (v *views) view(r *request, name string, data any) (view, error) {
	out := view{
		Name: name, Lang: r.lang, Theme: themeOf(r.Request), Path: r.URL.Path, Next: "/", Notices: r.knownNotices(v.texts),
		Now: r.now, Version: buildinfo.Version(), Data: data, Scope: func(string) bool { return false },
	}
	if r.Method == http.MethodGet {
		out.Next = ownPath(r.URL.RequestURI())
	}
	if r.key == nil {
		return out, nil
	}
	out.Monitor, out.Start = r.console.Monitor, r.console.Start
	out.Nav, out.Key, out.Local = v.nav, r.key.ID, r.console.Keys.Open()
	out.Scope = func(scope string) bool { return r.key.Allows(apikeyScope(scope)) }
	var err error
	out.Token, err = r.console.formToken(r.Context(), r.session, r.key)
	return out, err
}

// knownNotices returns the notices whose texts there are.
func (r *request) knownNotices(all texts) []notice {
	var known []notice
	for _, n := range r.shown {
		if _, ok := all[n.Text]; ok {
			known = append(known, n)
		}
	}
	return known
}
