package worker

import (
	"strings"
	"testing"
	"time"
)

func TestHoursOpen(t *testing.T) {
	for _, tt := range []struct{ hours, now, opens string }{
		{"08:00-22:00", "2026-12-01T08:00:00+08:00", ""},
		{"08:00-22:00", "2026-12-01T21:59:59+08:00", ""},
		{"08:00-22:00", "2026-12-01T22:00:00+08:00", "2026-12-02T08:00:00+08:00"},
		{"08:00-22:00", "2026-12-01T07:59:59.999+08:00", "2026-12-01T08:00:00+08:00"},
		{"08:00-22:00", "2026-12-31T23:30:00+08:00", "2027-01-01T08:00:00+08:00"},
		{"08:00-22:00", "2026-12-01T00:00:02Z", ""}, // eight in China
		{"08:00-22:00", "2026-11-30T23:59:59Z", "2026-12-01T08:00:00+08:00"},
		{"22:00-02:00", "2026-12-01T23:00:00+08:00", ""},
		{"22:00-02:00", "2026-12-01T01:59:00+08:00", ""},
		{"22:00-02:00", "2026-12-01T02:00:00+08:00", "2026-12-01T22:00:00+08:00"},
		{"22:00-02:00", "2026-12-01T12:00:00+08:00", "2026-12-01T22:00:00+08:00"},
		{"08:00-24:00", "2026-12-01T23:59:59+08:00", ""},
		{"08:00-24:00", "2026-12-02T00:00:00+08:00", "2026-12-02T08:00:00+08:00"},
		{"08:30-00:00", "2026-12-02T00:00:00+08:00", "2026-12-02T08:30:00+08:00"},
		{"00:00-24:00", "2026-12-02T00:00:00+08:00", ""},
		{"00:00-24:00", "2026-12-02T23:59:59+08:00", ""},
	} {
		now := timeOf(t, tt.now)
		at, open := Hours{AnyType: tt.hours}.NextOpen("send:custom", now)
		if open != (tt.opens == "") || open && !at.Equal(now) || !open && !at.Equal(timeOf(t, tt.opens)) {
			t.Errorf("%s at %s: %v, %v", tt.hours, tt.now, at, open)
		}
	}
}

// TestTheMostSpecificHoursApply: those of the type, then of its kind, then of all types.
func TestTheMostSpecificHoursApply(t *testing.T) {
	hours := Hours{"send:custom": "00:00-24:00", "send:*": "08:00-22:00", "scheme:*": "01:00-02:00"}
	night := timeOf(t, "2026-12-01T23:00:00+08:00")
	for typ, want := range map[string]bool{
		"send:custom": true, "send:subscribe": false, "scheme:generate": false, "code:wxacode": true,
	} {
		if _, open := hours.NextOpen(typ, night); open != want {
			t.Errorf("%s: %v", typ, open)
		}
	}
	hours[AnyType] = "08:00-22:00"
	if _, open := hours.NextOpen("code:wxacode", night); open {
		t.Error("the hours of all types do not apply")
	}
	if _, open := Hours(nil).NextOpen("send:custom", night); !open {
		t.Error("closed without hours")
	}
}

func TestHoursValidate(t *testing.T) {
	for text, want := range map[string]string{
		"08:00":        `"08:00" is not a span of the day; write it like 08:00-22:00`,
		"8:00-22:00":   `"8:00" is not a time of the day; write it with two digits each, like 08:00`,
		"08:00-22":     `"22" is not a time of the day; write it with two digits each, like 08:00`,
		"08:00-+1:00":  `"+1:00" is not a time of the day; write it with two digits each, like 08:00`,
		"08:60-22:00":  `"08:60" is not a time of the day; it must be from 00:00 to 24:00`,
		"08:00-24:01":  `"24:01" is not a time of the day; it must be from 00:00 to 24:00`,
		"08:00-08:00":  `"08:00-08:00" opens and closes at the same minute; 00:00-24:00 is always`,
		"24:00-08:00":  `"24:00-08:00" opens at 24:00, the end of the day; its beginning is 00:00`,
		"08:00–22:00":  `"08:00–22:00" is not a span of the day; write it like 08:00-22:00`,
		"08:00- 22:00": "",
	} {
		err := Hours{"send:*": text}.Validate()
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != `"send:*": `+want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	err := Hours{"snd:*": "08:00-22:00", "send:subscibe": "x", "*": "08:00-22:00"}.Validate()
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Fatalf("not all three mistakes: %v", err)
	}
	for _, want := range []string{
		`"send:subscibe": no such task type; the nearest is "send:subscribe" (there are send:subscribe, `, `"send:subscibe": "x" is not a span`,
		`"snd:*": no such task type; the nearest is "send:*"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\ndoes not contain %s", err, want)
		}
	}
}

// TestClosedHoursAreLoggedOnce: also when several replicas' worth of tasks meet it.
func TestClosedHoursAreLoggedOnce(t *testing.T) {
	var n loggedHours
	key, morning := laneKey{"wx", "send:custom"}, timeOf(t, "2026-12-01T08:00:00+08:00")
	for i, want := range []bool{true, false, false} {
		if got := n.shouldLog(key, morning); got != want {
			t.Errorf("task %d: %v", i, got)
		}
	}
	if !n.shouldLog(laneKey{"wx", "send:template"}, morning) || !n.shouldLog(key, morning.AddDate(0, 0, 1)) {
		t.Error("another lane, or the next opening time, is not logged")
	}
}

func timeOf(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
