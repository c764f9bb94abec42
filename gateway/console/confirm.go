package console

import "fmt"

// A confirmation is the page that asks before something is changed, with the number of what it
// concerns. It works without the script.
type confirmation struct {
	Title, Question string
	Notes           []string // what happens then
	Warning         string
	Fields          map[string]string // of the form, which is sent to the page's own path
	Button          string            // what the button says
	Back            string            // path of the page from which it was opened
}

// says returns a text in the language of the page. Numbers among args get their separators.
func (r *request) says(id string, args ...any) string {
	shown := make([]any, len(args))
	for i, arg := range args {
		shown[i] = arg
		if text, err := number(arg); err == nil {
			shown[i] = text
		}
	}
	text, err := r.console.views.texts.in(r.lang, id, shown...)
	if err != nil {
		return fmt.Sprint(id, shown) // a test ranges over the texts
	}
	return text
}

// saysOr returns a text, or another one if there is none: that of another version of wxcourier.
func (r *request) saysOr(id, other string) string {
	if _, ok := r.console.views.texts[id]; !ok {
		return other
	}
	return r.says(id)
}

// confirmPage returns a page that asks.
func confirmPage(path string, load func(*request) (any, error), post func(*request) (string, error)) page {
	return page{name: "confirm", path: path, load: load, post: func(r *request) (string, any, error) {
		next, err := post(r)
		return next, nil, err
	}}
}
