package loadtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/suggest"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// Options is what to measure.
type Options struct {
	Self   string  // path of the wxcourier binary, which the children are
	Target *Target // where the tasks wait

	Tasks       int           // to enqueue and drain; 0: as many as suit the place and the limit
	Type        string        // of the tasks
	Latency     time.Duration // of each answer of the stand-in for WeChat
	Limit       int           // calls a second that "WeChat" allows; 0: none
	Replicas    int           // worker processes
	Concurrency int           // calls under way in one of them
	Steady      time.Duration // how long end to end lasts; 0: SteadyTime

	Progress func(text string) // told what is under way, or nil
}

// Bounds and defaults.
const (
	SteadyTime = 10 * time.Second

	maxTasks       = 10_000_000
	maxReplicas    = 64
	maxConcurrency = 10_000
	maxLimit       = 100_000
	maxLatency     = 5 * time.Second // half of what a worker waits for

	defaultTasks         = 20_000 // the default
	defaultEmbeddedTasks = 1000   // the default in the embedded Redis
	maxEmbeddedTasks     = 5000   // with more, its lists grow slow and the figures mean nothing
	limitedDrain         = 20 * time.Second
)

// Validate tells all faults at once, each with the flag of the command line that sets it,
// in a *UsageError.
func (o Options) Validate() error {
	var faults []error
	number := func(flag string, value, least, most int, fix string) {
		if value < least || value > most {
			faults = append(faults, fmt.Errorf("%s: %s is not between %s and %s; %s", flag, summary.Number(value), summary.Number(least), summary.Number(most), fix))
		}
	}
	if o.Tasks != 0 {
		number("--tasks", o.Tasks, 1, maxTasks, "leave it out for a number that suits")
	}
	number("--replicas", o.Replicas, 1, maxReplicas, "one or two a core are enough")
	number("--concurrency", o.Concurrency, 1, maxConcurrency, "rate × latency is what is needed")
	if o.Limit != 0 {
		number("--limit", o.Limit, 1, maxLimit, "leave it out for no limit")
	}
	if o.Latency < 0 || o.Latency > maxLatency {
		faults = append(faults, fmt.Errorf("--latency: %v is not between 0s and %v; WeChat takes 30ms to 200ms", o.Latency, maxLatency))
	}
	if _, ok := tasks.Lookup(o.Type); !ok {
		faults = append(faults, unknownType(o.Type))
	}
	if len(faults) > 0 {
		return &UsageError{errors.Join(faults...)}
	}
	return nil
}

func unknownType(typ string) error {
	var names []string
	for _, spec := range tasks.Catalog() {
		names = append(names, spec.Type)
	}
	slices.Sort(names)
	meant := ""
	if name, ok := suggest.Name(typ, names); ok {
		meant = fmt.Sprintf("; the nearest is %s", name)
	}
	return fmt.Errorf("--type: %q is no task type%s (there are %s)", typ, meant, strings.Join(names, ", "))
}

// setDefaults sets what was left out.
func (o *Options) setDefaults() error {
	if o.Steady == 0 {
		o.Steady = SteadyTime
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	embedded := o.Target.Kind == Embedded
	if o.Tasks == 0 {
		o.Tasks = defaultTasks
		if embedded {
			o.Tasks = defaultEmbeddedTasks
		}
		if o.Limit > 0 { // a backlog of twenty seconds shows a limit as well as one of an hour
			o.Tasks = min(o.Tasks, max(o.Limit*int(limitedDrain.Seconds()), 2))
		}
	}
	if embedded && o.Tasks > maxEmbeddedTasks {
		return &UsageError{fmt.Errorf("--tasks: %s are too many for the embedded Redis, which takes %s; install redis-server, or name one with --redis", summary.Number(o.Tasks), summary.Number(maxEmbeddedTasks))}
	}
	return nil
}

// UsageError is options that cannot be carried out.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap gives the fault.
func (e *UsageError) Unwrap() error { return e.Err }
