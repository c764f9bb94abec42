package console

import (
	"errors"
	"net/http"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// page is one page of the console.
type page struct {
	name string // of templates/<name>.html; its title is the text <name>.title
	path string // as in http.ServeMux, without a method
	nav  bool   // it is in the navigation
	live bool   // the part "live" of its template is sent again when it changes
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

// action handles a form.
type action struct {
	scope apikey.Scope
	do    func(r *request) (next string, err error)
}

// pages returns all pages, in the order of the navigation.
func (c *Console) pages() []page {
	return []page{
		c.overviewPage(),
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

// servePage registers a page and its actions.
func (c *Console) servePage(p page) {
	path := p.path
	if path == "/" {
		path = "/{$}"
	}
	c.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		rq := c.newRequest(r)
		data, err := p.load(rq)
		c.answer(w, rq, p, http.StatusOK, data, err)
	})
	if p.post != nil {
		c.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) {
			rq := c.newRequest(r)
			next, data, err := p.post(rq)
			if err == nil && next != "" {
				http.Redirect(w, r, next, http.StatusSeeOther)
				return
			}
			c.answer(w, rq, p, http.StatusUnprocessableEntity, data, err)
		})
	}
	for name, a := range p.actions {
		c.mux.HandleFunc("POST "+p.path+"/"+name, func(w http.ResponseWriter, r *http.Request) {
			rq := c.newRequest(r)
			err := rq.require(a.scope, "")
			var next string
			if err == nil {
				next, err = a.do(rq)
			}
			if err != nil {
				c.answer(w, rq, p, 0, nil, err)
				return
			}
			http.Redirect(w, r, next, http.StatusSeeOther)
		})
	}
}

// answer writes a page, or the page of an error.
func (c *Console) answer(w http.ResponseWriter, r *request, p page, status int, data any, err error) {
	var f *fault
	switch {
	case err == nil:
		c.views.write(w, r, p, status, data)
	case errors.As(err, &f):
		c.views.writeFault(w, r, f)
	default:
		c.Log.Warn("a page failed", "page", p.name, "err", err)
		c.views.writeFault(w, r, &fault{status: http.StatusServiceUnavailable, text: "fault.redis"})
	}
}
