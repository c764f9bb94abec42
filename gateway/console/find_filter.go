package console

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/resultlog"
	"github.com/wxcourier/wxcourier/tasks"
)

// findFilter is what a URL of the page that finds tasks selects: at most one of ID, Person, RID and
// MsgID, and filters. Its fields have the texts of the URL.
type findFilter struct {
	ID     string
	Person string // see ledger.PersonOf: an openid must not be in a URL
	RID    string
	MsgID  string

	App     string
	Type    string
	Status  string // an outcome, a place, or the badge of a receipt
	ErrCode string
	Batch   string
	From    string // as in fields for a date and a time, in China's time
	Until   string
	Before  string // position in the list; "": the newest

	Faults map[string]string // by field: text that says what is wrong

	Outcome     tasks.Outcome         // Status
	Place       inspect.Place         // Status
	Receipt     tasks.DeliveryReceipt // Status
	errCode     int
	from, until time.Time
}

// listedPlaces are the places whose tasks can be listed.
func listedPlaces() []inspect.Place {
	return []inspect.Place{
		inspect.PlaceScheduled, inspect.PlaceWaiting, inspect.PlaceSending, inspect.PlaceRetrying, inspect.PlaceArchived,
	}
}

// timeFields is the format of fields for a date and a time.
const timeFields = "2006-01-02T15:04"

// parseFindFilter reads the fields of a URL or a form.
func parseFindFilter(v url.Values) findFilter {
	f := findFilter{Faults: make(map[string]string)}
	for field, into := range f.fields() {
		*into = v.Get(field)
	}
	if len(f.ID)+len(f.Person)+len(f.RID)+len(f.MsgID) > 0 {
		f.check("id", f.ID == "" || tasks.ValidID(f.ID))
		f.check("person", f.Person == "" || ledger.ValidPerson(f.Person))
		f.check("rid", f.RID == "" || ridForm.MatchString(f.RID))
		f.check("msgid", f.MsgID == "" || msgidForm.MatchString(f.MsgID))
	}
	f.check("app", f.App == "" || tasks.ValidApp(f.App))
	_, known := tasks.Lookup(f.Type)
	f.check("type", f.Type == "" || known)
	f.check("batch", f.Batch == "" || tasks.ValidBatch(f.Batch))
	switch {
	case slices.Contains(tasks.Outcomes(), tasks.Outcome(f.Status)):
		f.Outcome = tasks.Outcome(f.Status)
	case slices.Contains(listedPlaces(), inspect.Place(f.Status)):
		f.Place = inspect.Place(f.Status)
	case slices.Contains(receiptBadges(), f.Status):
		f.Receipt = tasks.DeliveryReceipt(strings.TrimPrefix(f.Status, receiptPrefix))
	default:
		f.check("status", f.Status == "")
	}
	var err error
	if f.ErrCode != "" {
		f.errCode, err = strconv.Atoi(f.ErrCode)
		f.check("errcode", err == nil)
	}
	f.from, f.until = f.time("from", f.From), f.time("until", f.Until)
	return f
}

// fields returns the fields of the URL.
func (f *findFilter) fields() map[string]*string {
	return map[string]*string{
		"id": &f.ID, "person": &f.Person, "rid": &f.RID, "msgid": &f.MsgID, "app": &f.App, "type": &f.Type, "status": &f.Status,
		"errcode": &f.ErrCode, "batch": &f.Batch, "from": &f.From, "until": &f.Until, "before": &f.Before,
	}
}

func (f *findFilter) check(field string, ok bool) {
	if !ok {
		f.Faults[field] = "find.fault." + field
	}
}

// time parses a field for a date and a time; seconds and a zone may be there.
func (f *findFilter) time(field, text string) time.Time {
	if text == "" {
		return time.Time{}
	}
	for _, format := range []string{timeFields, time.DateTime, time.DateOnly} {
		if t, err := time.ParseInLocation(format, text, calendar.Shanghai()); err == nil {
			return t
		}
	}
	t, err := time.Parse(time.RFC3339, text)
	f.check(field, err == nil)
	return t
}

// forget removes what is not a filter.
func (f *findFilter) forget() { f.ID, f.Person, f.RID, f.MsgID, f.Before = "", "", "", "", "" }

// searches reports whether the filter names tasks, and does not only filter them.
func (f *findFilter) searches() bool { return f.ID+f.Person+f.RID+f.MsgID != "" }

// Filters reports whether there is a filter.
func (f findFilter) Filters() bool {
	return f.App+f.Type+f.Status+f.ErrCode+f.Batch+f.From+f.Until != ""
}

// Searched is what was searched for, for its text: id, person, rid, msgid or "".
func (f findFilter) Searched() string {
	for _, field := range []string{"id", "person", "rid", "msgid"} {
		if *f.fields()[field] != "" {
			return field
		}
	}
	return ""
}

// SearchedText is what was searched for, if it may be shown.
func (f findFilter) SearchedText() string { return f.ID + f.RID + f.MsgID }

// url returns the URL of the filter.
func (f findFilter) url() string {
	v := make(url.Values)
	for field, text := range f.fields() {
		if *text != "" {
			v.Set(field, *text)
		}
	}
	if len(v) == 0 {
		return "/find"
	}
	return "/find?" + v.Encode()
}

// before returns the URL of the page after a position.
func (f findFilter) before(cursor string) string {
	f.Before = cursor
	return f.url()
}

// first returns the URL of the first page, "" if this is it.
func (f findFilter) first() string {
	if f.Before == "" {
		return ""
	}
	return f.before("")
}

// Everything returns the URL of the same search without filters, and without one that of all results.
func (f findFilter) Everything() string {
	return findFilter{ID: f.ID, Person: f.Person, RID: f.RID, MsgID: f.MsgID}.url()
}

// matches reports whether a task passes the filters; its app is selected before.
func (f *findFilter) matches(t *tasks.Result, place inspect.Place) bool {
	at := t.FinishedAt
	switch {
	case t.Outcome == "":
		at = t.EnqueuedAt
	case t.IsReceipt():
		at = t.ReceiptAt
	}
	return (f.Type == "" || f.Type == t.Type) &&
		(f.Outcome == "" || f.Outcome == t.Outcome) &&
		(f.Place == "" || f.Place == place) &&
		(f.Receipt == "" || f.Receipt == t.Receipt) &&
		(f.ErrCode == "" || f.errCode == t.ErrCode) &&
		(f.Batch == "" || f.Batch == t.Batch) &&
		(f.from.IsZero() || !at.Before(f.from)) &&
		(f.until.IsZero() || at.Before(f.until))
}

// contains returns what is in the JSON of all results that pass the filters.
func (f *findFilter) contains() (all []string) {
	for _, field := range [][2]string{{"type", f.Type}, {"outcome", string(f.Outcome)}, {"receipt", string(f.Receipt)}, {"batch", f.Batch}} {
		if field[1] != "" {
			all = append(all, resultlog.Field(field[0], field[1]))
		}
	}
	if f.ErrCode != "" {
		all = append(all, resultlog.NumberField("errcode", f.errCode))
	}
	return all
}

// position returns where the list of results begins: at the position of the URL, or at Until.
func (f *findFilter) position() string {
	if f.Before == "" && !f.until.IsZero() {
		return resultlog.Until(f.until)
	}
	return f.Before
}

func isCursorError(err error) bool { return errors.Is(err, resultlog.ErrCursor) }

func sortedUnique(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}

// taskURL returns the URL of a task's page. Neither part has a character with a meaning in a URL.
func taskURL(app, id string) string { return "/tasks/" + app + "/" + id }
