package templates_test

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/internal/templates"
)

func TestMain(m *testing.M) { os.Exit(redistest.Run(m)) }

// TestFieldKind has the kinds of WeChat's page, and names that have none.
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/mp-message-management/subscribe-message/sendMessage.html
func TestFieldKind(t *testing.T) {
	for _, kind := range []string{
		"thing", "number", "letter", "symbol", "character_string", "time", "date", "amount", "phone_number",
		"car_number", "name", "phrase", "enum", "enum_string", "const",
	} {
		for _, number := range []string{"1", "01", "23"} {
			if got := templates.FieldKind(kind + number); got != kind {
				t.Errorf("the kind of %s is %q", kind+number, got)
			}
		}
	}
	for name, want := range map[string]string{"first": "", "remark": "", "thing": "", "keyword1": "keyword", "": "", "111": "", "a1b": "", "a1b2": "a1b"} {
		if got := templates.FieldKind(name); got != want {
			t.Errorf("the kind of %q is %q, want %q", name, got, want)
		}
	}
}

func TestMode(t *testing.T) {
	for _, tt := range []struct {
		mode           templates.Mode
		checks, active bool
	}{
		{templates.Mode{}, false, false},
		{templates.Mode{Check: templates.CheckOff}, false, false},
		{templates.Mode{Check: "something"}, false, false}, // of a later version
		{templates.Mode{Check: templates.CheckWarn}, true, true},
		{templates.Mode{Check: templates.CheckReject}, true, true},
		{templates.Mode{Check: templates.CheckOff, Fix: true}, false, true},
	} {
		if tt.mode.Checks() != tt.checks || tt.mode.Active() != tt.active {
			t.Errorf("%+v: checks %v, active %v", tt.mode, tt.mode.Checks(), tt.mode.Active())
		}
		if normal := tt.mode.Normal(); normal.Fix != tt.mode.Fix || normal.Checks() != tt.checks || !tt.checks && normal.Check != "" {
			t.Errorf("%+v: normal is %+v", tt.mode, normal)
		}
	}
}

// one returns a template with fields of some names.
func one(id string, kind int, names ...string) templates.Template {
	t := templates.Template{ID: id, Kind: kind}
	for _, name := range names {
		t.Fields = append(t.Fields, templates.Field{Name: name, Kind: templates.FieldKind(name), Label: "of " + name})
	}
	return t
}

// TestSetList: the two lists replace each their own templates, and tell what changed in them.
func TestSetList(t *testing.T) {
	now := time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC)
	changed := one("T1", templates.LongTerm, "thing1", "enum2", "amount4")
	changed.Fields[0].Label = "another"
	changed.Fields[1].Values = []string{"上午"}
	r := new(templates.Registry)
	for i, step := range []struct {
		source templates.Source
		list   []templates.Template
		want   []string // changes
		ids    string   // of all templates, then
	}{
		{templates.Subscribe, []templates.Template{one("T1", templates.OneTime, "thing1", "enum2", "time3"), one("T2", 0)}, nil, "T1 T2"},
		{templates.Account, []templates.Template{one("T1", 0, "first")}, nil, "T1 T2 T1"}, // an id is of its list
		{templates.Subscribe, []templates.Template{one("T2", 0), one("T1", templates.OneTime, "thing1", "enum2", "time3")}, nil, "T1 T2 T1"},
		{templates.Subscribe, []templates.Template{changed, one("T3", 0)}, []string{
			"T1: kind 2 became 3, thing1 has another label, enum2 takes other values, time3 is gone, amount4 is new",
			"T2 is gone", "T3 is new",
		}, "T1 T1 T3"},
		{templates.Account, nil, []string{"T1 is gone"}, "T1 T3"},
		{templates.Account, []templates.Template{one("A1", 0)}, []string{"A1 is new"}, "T1 T3 A1"},
	} {
		at := now.Add(time.Duration(i) * time.Hour)
		if got := r.SetList(step.source, step.list, at); !slices.Equal(got, step.want) {
			t.Errorf("step %d: changes %q, want %q", i, got, step.want)
		}
		var ids []string
		for _, known := range r.All() {
			ids = append(ids, known.ID)
			if found := r.Template(known.Source, known.ID); found == nil || found.ID != known.ID || found.Source != known.Source {
				t.Errorf("step %d: %s is %+v", i, known.ID, found)
			}
		}
		if got := strings.Join(ids, " "); got != step.ids {
			t.Errorf("step %d: templates %s, want %s", i, got, step.ids)
		}
		if list := r.Lists[step.source]; !r.Has(step.source) || !r.FetchedAt.Equal(at) || !list.FetchedAt.Equal(at) || !list.AskedAt.Equal(at) {
			t.Errorf("step %d: %+v, %+v", i, r, list)
		}
	}
	if r.Template(templates.Subscribe, "T2") != nil || len(r.Of(templates.Subscribe)) != 2 || len(r.Of(templates.Account)) != 1 {
		t.Errorf("%+v", r.Templates)
	}
}

// TestHas: only a list that WeChat gave says that a template does not exist.
func TestHas(t *testing.T) {
	at := time.Now()
	for name, tt := range map[string]struct {
		r    *templates.Registry
		want bool
	}{
		"no registry":           {nil, false},
		"no lists":              {&templates.Registry{}, false},
		"another list":          {&templates.Registry{Lists: map[templates.Source]*templates.Listing{templates.Account: {FetchedAt: at}}}, false},
		"asked in vain":         {&templates.Registry{Lists: map[templates.Source]*templates.Listing{templates.Subscribe: {AskedAt: at, Error: "x"}}}, false},
		"given":                 {&templates.Registry{Lists: map[templates.Source]*templates.Listing{templates.Subscribe: {FetchedAt: at}}}, true},
		"given, then a failure": {&templates.Registry{Lists: map[templates.Source]*templates.Listing{templates.Subscribe: {FetchedAt: at, Error: "x"}}}, true},
		"given, then taken":     {&templates.Registry{Lists: map[templates.Source]*templates.Listing{templates.Subscribe: {FetchedAt: at, Refused: 48001}}}, false},
	} {
		if got := tt.r.Has(templates.Subscribe); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
		if tt.r.Template(templates.Subscribe, "T1") != nil || len(tt.r.All()) != 0 {
			t.Errorf("%s: there are templates", name)
		}
	}
}

// TestDecode: what is written to Redis is read as it was, with the mode at the top, where other programs
// find it.
func TestDecode(t *testing.T) {
	r := &templates.Registry{Mode: templates.Mode{Check: templates.CheckWarn, Fix: true}, Quiet: 2, Until: time.Date(2026, 12, 1, 9, 0, 0, 0, time.UTC)}
	full := one("T1", templates.OneTime, "thing1", "enum2")
	full.Title, full.Content, full.Example, full.Fields[1].Values = "发货", "商品:{{thing1.DATA}}", "商品:雨伞", []string{"上午", "下午"}
	r.SetList(templates.Subscribe, []templates.Template{full, one("T2", 0)}, time.Date(2026, 12, 1, 8, 0, 0, 0, time.UTC))
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(text), `{"check":"warn","fix":true,"fetched_at":"2026-12-01T08:00:00Z",`) {
		t.Errorf("%s", text)
	}
	got, err := templates.Decode(text)
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "{", "[]", `"x"`, `{"templates":{}}`, `{"fix":1}`, `{"fetched_at":"yesterday"}`} {
		if got, err := templates.Decode([]byte(bad)); err == nil || got != nil {
			t.Errorf("%s is a registry: %+v", bad, got)
		}
	}
}

// FuzzDecode: a registry in Redis that another version, or no program at all, wrote is an error or can be
// used.
func FuzzDecode(f *testing.F) {
	f.Add(`{"check":"reject","lists":{"subscribe":null},"templates":[{"id":"T1","source":"subscribe","fields":null},{"id":"T1"}]}`)
	f.Add(`{"templates":null,"lists":{"":{}},"fetched_at":"2026-12-01T08:00:00+08:00"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		r, err := templates.Decode([]byte(text))
		if err != nil {
			return
		}
		for _, known := range r.All() {
			if r.Template(known.Source, known.ID) == nil {
				t.Errorf("%s is not found", known.ID)
			}
		}
		for _, source := range templates.Sources() {
			if r.SetList(source, slices.Clone(r.Of(source)), time.Unix(0, 0)); !r.Has(source) {
				t.Errorf("%s is not known after it was set", source)
			}
		}
	})
}
