package tasks_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// filledResult returns a Result with a value in each field for which pick returns true. It
// uses reflection, so that it includes fields that are added later.
func filledResult(t *testing.T, pick func(field int) bool, text string) tasks.Result {
	t.Helper()
	var r tasks.Result
	v := reflect.ValueOf(&r).Elem()
	for i := range v.NumField() {
		if !pick(i) {
			continue
		}
		switch f := v.Field(i); {
		case f.Kind() == reflect.String:
			f.SetString(fmt.Sprint(text, i))
		case f.Kind() == reflect.Int:
			f.SetInt(int64(i) - 9)
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(time.Date(2026, 11, 21, 8, 0, i, 120000000, time.FixedZone("", 8*3600))))
		case f.Type() == reflect.TypeFor[*tasks.LastAnswer]():
			at := time.Date(2026, 11, 21, 9, 0, i, 5000, time.UTC)
			f.Set(reflect.ValueOf(&tasks.LastAnswer{ErrCode: -i, ErrMsg: fmt.Sprint(text, "m"), RID: fmt.Sprint(text, "r"), Class: text, At: at}))
		case f.Type() == reflect.TypeFor[[]string]():
			f.Set(reflect.ValueOf([]string{fmt.Sprint(text, "a"), text}))
		default:
			t.Fatalf("field %s: this test cannot set a %s", v.Type().Field(i).Name, f.Type())
		}
	}
	return r
}

// standardJSON returns the record as encoding/json writes it, without escapes for HTML.
func standardJSON(t *testing.T, r tasks.Result) []byte {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// TestResultEncodeHasEveryField: Encode writes each field of Result under its JSON name.
func TestResultEncodeHasEveryField(t *testing.T) {
	typ := reflect.TypeFor[tasks.Result]()
	for i := range typ.NumField() {
		var fields map[string]any
		r := filledResult(t, func(field int) bool { return field == i }, "v")
		if err := json.Unmarshal(r.Encode(), &fields); err != nil {
			t.Fatal(err)
		}
		if name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ","); fields[name] == nil {
			t.Errorf("Result.Encode omits the field %s (%q)", typ.Field(i).Name, name)
		}
	}
}

// TestResultEncode: the JSON is that of encoding/json.
func TestResultEncode(t *testing.T) {
	fields := reflect.TypeFor[tasks.Result]().NumField()
	for _, text := range []string{"v", `"quoted" \ <b>&amp;`, "订单已发货 🎉", "line\nbreak\ttab\x01\x7f"} {
		for i := range fields {
			for _, r := range []tasks.Result{
				filledResult(t, func(field int) bool { return field == i }, text),
				filledResult(t, func(field int) bool { return field != i }, text),
				filledResult(t, func(int) bool { return rand.IntN(2) == 0 }, text), //nolint:gosec // a test's choice
			} {
				if got, want := r.Encode(), standardJSON(t, r); !bytes.Equal(got, want) {
					t.Fatalf("got\n%s\nwant\n%s", got, want)
				}
			}
		}
	}
}

// TestResultEncodeOddTimes: the time of enqueuing may come from a producer's header. A time
// without an RFC 3339 form is omitted.
func TestResultEncodeOddTimes(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).In(time.FixedZone("", 8*3600)),
		time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).In(time.FixedZone("", -8*3600)),
		time.Date(2026, 11, 21, 8, 0, 0, 0, time.FixedZone("", 8*3600+343)),
	} {
		var back tasks.Result
		if err := json.Unmarshal(tasks.Result{ID: "a", EnqueuedAt: at}.Encode(), &back); err != nil || back.ID != "a" {
			t.Errorf("%v: %+v, %v", at, back, err)
		}
		if readable := at.Year() == 2026; readable != back.EnqueuedAt.Equal(at) {
			t.Errorf("%v was read back as %v", at, back.EnqueuedAt)
		}
	}
}

// TestResultEncodeIsReadBack: characters that encoding/json escapes for JavaScript, or replaces,
// have the same value when the record is decoded.
func TestResultEncodeIsReadBack(t *testing.T) {
	for _, text := range []string{"\u2028 and \u2029", "cut \xe8\xae", "\x00"} {
		r := filledResult(t, func(int) bool { return true }, text)
		var ours, theirs tasks.Result
		if err := json.Unmarshal(r.Encode(), &ours); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if err := json.Unmarshal(standardJSON(t, r), &theirs); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(ours, theirs) {
			t.Errorf("%q: got %+v, want %+v", text, ours, theirs)
		}
	}
}
