package resultcsv_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/resultcsv"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestCSVHasEveryField: each field of a result has a column under its JSON name, and the column
// shows that field's value; but the state, which is always done, and the fields that only a task
// without an outcome has.
func TestCSVHasEveryField(t *testing.T) {
	names := []string{}
	for _, column := range resultcsv.Columns() {
		names = append(names, column.Name)
	}
	typ, without := reflect.TypeFor[tasks.Result](), []string{"state", "last", "waits_for", "next_at"}
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		if slices.Contains(without, name) {
			continue
		}
		at := slices.Index(names, name)
		if at < 0 {
			t.Errorf("resultcsv.Columns has no column %s (field %s of tasks.Result)", name, typ.Field(i).Name)
			continue
		}
		var r tasks.Result
		field := reflect.ValueOf(&r).Elem().Field(i)
		want := "7"
		switch {
		case field.Kind() == reflect.Int:
			field.SetInt(7)
		case field.Kind() == reflect.String:
			field.SetString("7")
		case field.Kind() == reflect.Slice:
			field.Set(reflect.ValueOf([]string{"7", "8"}))
			want = "7; 8"
		default:
			at := time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)
			field.Set(reflect.ValueOf(at))
			want = at.Local().Format(time.RFC3339)
		}
		if got := resultcsv.Columns()[at].Value(r); got != want {
			t.Errorf("column %s is %q, want %q", name, got, want)
		}
	}
	if len(names) != typ.NumField()-len(without) {
		t.Errorf("%d columns of %d fields", len(names), typ.NumField())
	}
}
