package loadtest

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/tasks"
)

func validOptions() Options {
	return Options{Type: tasks.TypeSubscribe, Replicas: 1, Concurrency: 64, Target: &Target{Kind: Started}}
}

func TestValidateReportsAllFaults(t *testing.T) {
	if err := validOptions().Validate(); err != nil {
		t.Fatal(err)
	}
	err := Options{Tasks: -1, Type: "send:subscrib", Latency: time.Hour, Limit: -1, Concurrency: -1}.Validate()
	var usage *UsageError
	if !errors.As(err, &usage) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"--tasks: -1", "--type:", "nearest is send:subscribe", "--latency: 1h0m0s", "--limit: -1", "--replicas: 0", "--concurrency: -1"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestSetDefaults(t *testing.T) {
	for _, tt := range []struct {
		kind         Kind
		tasks, limit int
		want         int // -1: refused
	}{
		{Started, 0, 0, defaultTasks},
		{Started, 123, 10, 123},
		{Started, 0, 100, 2000},
		{Embedded, 0, 0, defaultEmbeddedTasks},
		{Embedded, 0, 10, 200},
		{Embedded, maxEmbeddedTasks + 1, 0, -1},
		{Named, maxEmbeddedTasks + 1, 0, maxEmbeddedTasks + 1},
	} {
		o := validOptions()
		o.Target, o.Tasks, o.Limit = &Target{Kind: tt.kind}, tt.tasks, tt.limit
		err := o.setDefaults()
		if (tt.want < 0) != (err != nil) || err == nil && o.Tasks != tt.want {
			t.Errorf("%+v: %d tasks, %v", tt, o.Tasks, err)
		}
	}
}

// TestLimitsForLiftsDocumentedLimits: for each type, limitsFor overrides every documented window, and
// sets perSecond if given.
func TestLimitsForLiftsDocumentedLimits(t *testing.T) {
	for _, spec := range tasks.Catalog() {
		limits := limitsFor(spec.Type, 0, 7)
		if err := ratelimit.ValidateLimits(limits); err != nil {
			t.Errorf("%s: %v", spec.Type, err)
		}
		if got := limits[spec.Type].Concurrency; got != 7 {
			t.Errorf("%s: concurrency %d", spec.Type, got)
		}
		for _, row := range ratelimit.Defaults() {
			ours := limits[row.Name]
			concerned := row.Name == spec.Type || strings.Contains(strings.Join(row.Members, " "), spec.Type)
			if !concerned {
				if _, there := limits[row.Name]; there {
					t.Errorf("%s: a limit of %s", spec.Type, row.Name)
				}
				continue
			}
			if (ours.PerSecond == 0) != (row.Limit.PerSecond == 0) || (ours.PerMinute == 0) != (row.Limit.PerMinute == 0) ||
				(ours.PerDay == 0) != (row.Limit.PerDay == 0) || (ours.Total == 0) != (row.Limit.Total == 0) {
				t.Errorf("%s: %s is limited to %+v, and documented as %+v", spec.Type, row.Name, ours, row.Limit)
			}
		}
		if got := limitsFor(spec.Type, 42, 7)[spec.Type].PerSecond; got != 42 {
			t.Errorf("%s: %d a second, not 42", spec.Type, got)
		}
	}
}

func TestChildEnvOmitsConfiguration(t *testing.T) {
	got := childEnv([]string{"PATH=/bin", "WXCOURIER_APPS_WX0123456789ABCDEF_SECRET=s", "WXCOURIER_CONFIG=c", "HOME=/"})
	if strings.Join(got, " ") != "PATH=/bin HOME=/" {
		t.Errorf("%q", got)
	}
}

func TestQuantile(t *testing.T) {
	s := &resultSet{}
	if s.quantile(0.5).known() {
		t.Error("a quantile of nothing")
	}
	for i := range 100 {
		s.took = append(s.took, float64(i+1))
	}
	for q, want := range map[float64]Figure{0.5: 50, 0.99: 99, 1: 100, 0: 1} {
		if got := s.quantile(q); got != want {
			t.Errorf("%v: %v, want %v", q, got, want)
		}
	}
}

func TestSteadyRate(t *testing.T) {
	for _, tt := range []struct {
		drained Figure
		limit   int
		want    float64
	}{
		{1000, 0, 500},
		{95, 100, 90},    // bounded by the limit
		{400, 1000, 200}, // bounded by the machine
		{unknown, 0, 1},
	} {
		r := &run{options: Options{Limit: tt.limit}}
		r.report.Drain.Rate = tt.drained
		if got := r.steadyRate(); got != tt.want {
			t.Errorf("%+v: %v", tt, got)
		}
	}
}

func TestReportForms(t *testing.T) {
	o := validOptions()
	o.Limit = 100
	r := newReport(o, "7.0.15")
	r.Drain.Rate, r.Drain.Tasks = 96.12345, 12345
	r.Drain.Outcomes = map[tasks.Outcome]int{tasks.OutcomeAccepted: 12340, tasks.OutcomeFailed: 5}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"tasks_per_second":96.12`, `"limit_per_second":100`, `"redis_cpu_seconds_per_100k":null`, `"p99_seconds":null`, `"kind":"started"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"12,345", "limit 100 per second", "Redis 7.0.15", "drain: 5 tasks ended as failed."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "p99") || strings.Contains(b.String(), "NaN") {
		t.Errorf("an unknown figure is shown:\n%s", b.String())
	}
}
