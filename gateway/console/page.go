package console

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// page is one page of the console.
type page struct {
	name string // of templates/<name>.html; its title is the text <name>.title
	path string // as in http.ServeMux, without a method
	nav  bool   // it is in the navigation
	live bool   // the part "live" of its template is sent again when it changes
	// shortcut is the key that opens it after g; "": the first letter of its name.
	shortcut string
	// upload is the size of its forms, with files; 0: 1 MiB.
	upload int64
	// load returns the data of the template.
	load func(r *request) (any, error)
	// post handles a form that was sent to the page's own path; nil: there is none. It returns
	// where the browser goes next or, to show the page again, "" and its data.
	post func(r *request) (next string, data any, err error)
	// actions are the forms that are sent to <path>/<action>. They return where the browser goes next.
	actions map[string]action
}

// Name is for templates.
func (p page) Name() string { return p.name }

// Path is for templates.
func (p page) Path() string { return p.path }

// Shortcut is for templates.
func (p page) Shortcut() string { return cmp.Or(p.shortcut, p.name[:1]) }

// action handles a form.
type action struct {
	scope apikey.Scope
	do    func(r *request) (next string, err error)
}

// pages returns all pages, in the order of the navigation.
func (c *Console) pages() []page {
	return []page{
		c.overviewPage(),
		c.findPage(),
		c.batchesPage(),
		c.sendPage(),
		c.holdsPage(),
		c.failuresPage(),
		c.codesPage(),
		c.webhooksPage(),
		c.auditPage(),

		c.taskPage(),
		c.cancelTaskPage(),
		c.redriveTaskPage(),
		c.redrivePage(),
		c.batchPage(),
		c.cancelBatchPage(),
		c.campaignPage(),
		c.releasePage(),
		c.webhookPage(),
		c.webhookActionPage(),
	}
}

// fault is an error that the user is told.
type fault struct {
	status int
	text   string // id of a text
	args   []any  // of the text; they are shown as they are, and are no secrets
}

// Error implements error.
func (f *fault) Error() string { return "console: " + f.text }

// faultf returns a fault.
func faultf(status int, text string, args ...any) error { return &fault{status, text, args} }

// maxForm is the size of a form, unless its page takes more.
const maxForm = 1 << 20

// maxFormMemory is how much of a form with files is in memory; the rest is in temporary files.
const maxFormMemory = 16 << 20

// servePage registers a page and its actions.
func (c *Console) servePage(p page) {
	path, base := p.path, strings.TrimSuffix(p.path, "/")
	if path == "/" {
		path = "/{$}"
	}
	c.mux.Handle("GET "+path, c.page(p, func(w http.ResponseWriter, r *request) {
		if p.live && wantsEvents(r.Request) {
			c.stream(w, r, p)
			return
		}
		data, err := p.load(r)
		if err == nil {
			r.takeNotices(w)
		}
		c.answer(w, r, p, http.StatusOK, data, err)
	}))
	if p.post != nil {
		c.handleForm(path, p, func(w http.ResponseWriter, r *request) {
			next, data, err := p.post(r)
			if err == nil && next != "" {
				r.redirect(w, next)
				return
			}
			c.answer(w, r, p, statusOf(data), data, err)
		})
	}
	for name, a := range p.actions {
		c.handleForm(base+"/"+name, p, func(w http.ResponseWriter, r *request) {
			err := r.require(a.scope, "")
			var next string
			if err == nil {
				next, err = a.do(r)
			}
			if err != nil {
				c.answer(w, r, p, 0, nil, err)
				return
			}
			r.redirect(w, next)
		})
	}
}

// statusOf returns the status of a form that is shown again: mostly because something is wrong.
func statusOf(data any) int {
	if form, ok := data.(interface{ Any() bool }); ok && !form.Any() {
		return http.StatusOK // a step of several
	}
	return http.StatusUnprocessableEntity
}

// page returns the handler of a page for keys that may read.
func (c *Console) page(p page, serve func(w http.ResponseWriter, r *request)) http.Handler {
	return c.Authenticated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rq := c.newRequest(r)
		if err := rq.require(apikey.Read, ""); err != nil {
			c.answer(w, rq, p, 0, nil, err)
			return
		}
		serve(w, rq)
	}))
}

// handleForm registers the handler of a form, which must have the token of its session.
func (c *Console) handleForm(path string, p page, serve func(w http.ResponseWriter, r *request)) {
	c.forms = append(c.forms, path)
	c.mux.Handle("POST "+path, c.page(p, func(w http.ResponseWriter, r *request) {
		err := r.readForm(w, max(p.upload, maxForm))
		if r.MultipartForm != nil {
			defer func() { _ = r.MultipartForm.RemoveAll() }() // of the temporary directory
		}
		if err == nil {
			err = r.checkToken()
		}
		if err != nil {
			c.answer(w, r, p, 0, nil, err)
			return
		}
		serve(w, r)
	}))
}

// readForm reads the form of a request, with files.
func (r *request) readForm(w http.ResponseWriter, most int64) error {
	r.Body = http.MaxBytesReader(w, r.Body, most)
	err := r.ParseForm()
	if err == nil && strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		err = r.ParseMultipartForm(min(most, maxFormMemory)) //nolint:gosec // the body is bounded
	}
	if err != nil {
		limit, _ := number(most)
		return faultf(http.StatusBadRequest, "fault.body", limit)
	}
	return nil
}

// answer writes a page, or the page of an error.
func (c *Console) answer(w http.ResponseWriter, r *request, p page, status int, data any, err error) {
	var f *fault
	switch {
	case err == nil:
		c.views.execute(w, r, p.name, status, data)
	case errors.As(err, &f):
		c.views.writeFault(w, r, f)
	default:
		c.logFailure(r, p, err)
		c.views.writeFault(w, r, &fault{status: http.StatusServiceUnavailable, text: "fault.redis"})
	}
}

// logFailure logs why a page could not be read, unless the reader has gone.
func (c *Console) logFailure(r *request, p page, err error) {
	if r.Context().Err() == nil {
		c.Log.Warn("a page failed", "page", p.name, "err", err)
	}
}

// serveUnknown answers requests for which there is no page.
func (c *Console) serveUnknown(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost {
		w.Header().Set("Allow", "GET, HEAD, POST")
		problem.New(http.StatusMethodNotAllowed, "there is no such method here").Write(w)
		return
	}
	if !wantsPage(r) {
		problem.New(http.StatusNotFound, "there is no such path").Write(w)
		return
	}
	c.page(page{name: "fault"}, func(w http.ResponseWriter, r *request) {
		c.views.writeFault(w, r, &fault{status: http.StatusNotFound, text: "fault.missing"})
	}).ServeHTTP(w, r)
}
