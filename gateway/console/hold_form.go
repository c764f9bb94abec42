package console

import (
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/operate"
)

// holdForm is the form that sets a hold, with the texts of its fields.
type holdForm struct {
	App, What, Type, Template string
	Ends, For, At             string
	Reason                    string
	Faults                    map[string]string // by field: text that says what is wrong
}

// The values of holdForm.What and holdForm.Ends.
const (
	whatApp      = "app"
	whatType     = "type"
	whatTemplate = "template"
	endsNever    = "never"
	endsFor      = "for"
	endsAt       = "at"
)

// Spans are the durations that the form offers.
func (holdForm) Spans() []time.Duration {
	return []time.Duration{15 * time.Minute, time.Hour, 4 * time.Hour, 12 * time.Hour, 24 * time.Hour, 3 * 24 * time.Hour, 7 * 24 * time.Hour}
}

// Invalid reports whether a field has a fault.
func (f holdForm) Invalid(field string) bool { return f.Faults[field] != "" }

// parseHoldForm reads the form.
func parseHoldForm(v url.Values) holdForm {
	return holdForm{
		App: v.Get("app"), What: v.Get("what"), Type: v.Get("type"), Template: strings.TrimSpace(v.Get("template")),
		Ends: v.Get("ends"), For: v.Get("for"), At: v.Get("at"), Reason: strings.TrimSpace(v.Get("reason")),
		Faults: make(map[string]string),
	}
}

// hold returns the hold that the form describes, at a time. Its faults are in the form.
func (f *holdForm) hold(now time.Time) hold.Hold {
	h := hold.Hold{App: f.App, Reason: f.Reason}
	switch f.What {
	case whatApp:
		h.Scope = hold.WholeApp
	case whatType:
		if h.Scope = f.Type; !operate.ValidScope(h.Scope) || h.Scope == hold.WholeApp || hold.IsTemplate(h.Scope) {
			f.Faults["type"] = "hold.fault.type"
		}
	case whatTemplate:
		if h.Scope = hold.TemplateScope(f.Template); !operate.ValidScope(h.Scope) {
			f.Faults["template"] = "hold.fault.template"
		}
	default:
		f.Faults["what"] = "hold.fault.what"
	}
	switch f.Ends {
	case endsNever:
	case endsFor:
		d, err := time.ParseDuration(f.For)
		if h.Until = now.Add(d); err != nil || !slices.Contains(f.Spans(), d) {
			f.Faults["for"] = "hold.fault.for"
		}
	case endsAt:
		at, err := time.ParseInLocation(timeFields, f.At, calendar.Shanghai())
		switch h.Until = at; {
		case err != nil:
			f.Faults["at"] = "hold.fault.at"
		case !at.After(now):
			f.Faults["at"] = "hold.fault.passed"
		}
	default:
		f.Faults["ends"] = "hold.fault.ends"
	}
	if !operate.ValidReason(f.Reason) {
		f.Faults["reason"] = "hold.fault.reason"
	}
	return h
}

// postHold sets a hold, or shows the form again with its faults.
func (c *Console) postHold(r *request) (next string, data any, err error) {
	f := parseHoldForm(r.PostForm)
	if err := r.require(apikey.Operate, f.App); err != nil {
		return "", nil, err
	}
	h := f.hold(r.now)
	known, err := c.findApps(r, "")
	if err != nil {
		return "", nil, err
	}
	if !slices.Contains(known, f.App) {
		f.Faults["app"] = "hold.fault.app"
	}
	set := false
	if len(f.Faults) == 0 {
		h.By = r.key.ID
		h, set, err = c.operator(r).Set(r.Context(), h)
		c.cache.forget("state")
		field, text, known := errorsOfHold(err)
		if err != nil && !known {
			return "", nil, err
		}
		if known {
			f.Faults[field] = text
		}
	}
	if len(f.Faults) > 0 {
		data, err := c.newHolds(r)
		data.Form = f
		return "", data, err
	}
	what, err := c.views.scope(r.lang, h.Scope)
	if err != nil {
		return "", nil, err
	}
	if set {
		r.notice("hold.done", what, h.App)
	} else {
		r.notice("hold.known", what, h.App)
	}
	return "/holds", nil, nil
}
