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

// Options configures a run.
type Options struct {
	Self   string  // path of the wxcourier binary, run as child processes
	Target *Target // the Redis of the run

	Tasks       int           // to enqueue and drain; 0: a default for the target and the limit
	Type        string        // of the tasks
	Latency     time.Duration // of each answer of the stand-in for WeChat
	Limit       int           // calls a second that the stand-in for WeChat allows; 0: no limit
	Replicas    int           // worker processes
	Concurrency int           // concurrent calls per worker process
	Steady      time.Duration // duration of end to end; 0: SteadyTime

	Progress func(text string) // called with a progress text; may be nil
}

// Bounds and defaults.
const (
	SteadyTime = 10 * time.Second

	maxTasks       = 10_000_000
	maxReplicas    = 64
	maxConcurrency = 10_000
	maxLimit       = 100_000
	maxLatency     = 5 * time.Second // half of a worker's timeout

	defaultTasks         = 20_000 // the default
	defaultEmbeddedTasks = 1000   // the default in the embedded Redis
	maxEmbeddedTasks     = 5000   // with more, its long lists slow it down and distort the figures
	limitedDrain         = 20 * time.Second
)

// Validate returns a *UsageError with all faults, each with its command line flag.
func (o Options) Validate() error {
	var faults []error
	number := func(flag string, value, least, most int, fix string) {
		if value < least || value > most {
			faults = append(faults, fmt.Errorf("%s: %s is not between %s and %s; %s", flag, summary.Number(value), summary.Number(least), summary.Number(most), fix))
		}
	}
	if o.Tasks != 0 {
		number("--tasks", o.Tasks, 1, maxTasks, "omit it for a suitable default")
	}
	number("--replicas", o.Replicas, 1, maxReplicas, "one or two per core are enough")
	number("--concurrency", o.Concurrency, 1, maxConcurrency, "rate × latency is sufficient")
	if o.Limit != 0 {
		number("--limit", o.Limit, 1, maxLimit, "omit it for no limit")
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
	return fmt.Errorf("--type: %q is not a task type%s (the types are %s)", typ, meant, strings.Join(names, ", "))
}

// setDefaults fills in omitted options. It returns an error when the embedded Redis cannot hold so
// many tasks.
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
		if o.Limit > 0 { // 20 s of work are enough to measure a limit
			o.Tasks = min(o.Tasks, max(o.Limit*int(limitedDrain.Seconds()), 2))
		}
	}
	if embedded && o.Tasks > maxEmbeddedTasks {
		return &UsageError{fmt.Errorf("--tasks: %s is too many for the embedded Redis, which takes at most %s; install redis-server, or give a Redis with --redis", summary.Number(o.Tasks), summary.Number(maxEmbeddedTasks))}
	}
	return nil
}

// UsageError is an error in the options.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the fault.
func (e *UsageError) Unwrap() error { return e.Err }
