// Package redrive enqueues ended tasks again, many at a time. It is the engine of the subcommand
// redrive and of the operation POST /v1/redrives.
//
//	r := redrive.New(redrive.Config{Inspector: inspector, Filter: filter})
//	err := r.Redrive(ctx, app, nil) // all tasks of the app that match the filter
//	fmt.Println(r.Counts().Redriven)
package redrive

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// Config configures a Redriver. Inspector and Filter are required.
type Config struct {
	Inspector *tasks.Inspector
	Filter    tasks.Redrive
	Limit     int // tasks to redrive at most, over all calls; 0: no limit
	// OnProgress, if set, is called after each batch of 512 tasks.
	OnProgress func(Counts)
	// OnRedriven, if set, is called by [Bounded] for each app with the number of its tasks that wait
	// again, unless that is 0.
	OnRedriven func(app string, n int)
}

// Counts counts tasks by what was done with them.
type Counts struct {
	Redriven  int  `json:"redriven"`   // waiting again
	Resumed   int  `json:"resumed"`    // waiting again: completed for an interrupted redrive
	Unmatched int  `json:"unmatched"`  // do not match the filter, or no longer
	Expired   int  `json:"expired"`    // not_after has passed: skipped
	NoPayload int  `json:"no_payload"` // payload no longer kept: skipped
	Busy      int  `json:"busy"`       // still owned by an earlier run: repeat the redrive
	DryRun    bool `json:"dry_run"`    // nothing was changed: the counts say what would be
	// Cut has the apps whose results results.stream_max_len has cut, with the time to which they
	// go back: earlier tasks were not found.
	Cut map[string]time.Time `json:"cut,omitempty"`
}

// Since returns how many tasks wait again that did not when the counts were earlier.
func (c Counts) Since(earlier Counts) int {
	return c.Redriven + c.Resumed - earlier.Redriven - earlier.Resumed
}

// Note describes the filter of a redrive for the audit. byID says that it also named tasks.
func Note(f tasks.Redrive, byID bool) string {
	var parts []string
	for _, outcome := range f.Outcomes {
		parts = append(parts, string(outcome))
	}
	for _, code := range f.ErrCodes {
		parts = append(parts, "errcode "+strconv.Itoa(code))
	}
	if f.Batch != "" {
		parts = append(parts, "batch "+f.Batch)
	}
	if !f.Since.IsZero() {
		parts = append(parts, "since "+f.Since.UTC().Format(time.RFC3339))
	}
	if byID {
		parts = append(parts, "by id")
	}
	return strings.Join(parts, ", ")
}

// Redriver redrives the tasks of one app after the other. It is for one goroutine.
type Redriver struct {
	cfg    Config
	left   int // tasks that may still be redriven; negative: no limit
	counts Counts
}

// New returns a Redriver. It does no I/O.
func New(cfg Config) *Redriver {
	r := &Redriver{cfg: cfg, left: -1, counts: Counts{DryRun: cfg.Filter.DryRun}}
	if cfg.Limit > 0 {
		r.left = cfg.Limit
	}
	return r
}

// Counts returns the counts so far.
func (r *Redriver) Counts() Counts { return r.counts }

// Tasks are redriven in batches of batchSize. parallelism of them are processed concurrently.
const (
	batchSize   = 512
	parallelism = 16
)

// Redrive redrives tasks of an app: those with the ids or, with nil ids, those in the results that match
// the filter. It first completes the redrives that an interrupted run left unfinished.
func (r *Redriver) Redrive(ctx context.Context, app string, ids iter.Seq[string]) error {
	resumed, busy, err := r.cfg.Inspector.FinishRedrives(ctx, app, r.cfg.Filter.DryRun)
	r.counts.Resumed += resumed
	r.counts.Busy += len(busy)
	if err != nil {
		return err
	}
	source := r.cfg.Inspector.RedriveCandidates(ctx, app, r.cfg.Filter)
	if ids != nil {
		source = withoutErrors(ids)
	}
	next, stop := iter.Pull2(source)
	defer stop()
	for more := true; more && r.left != 0; {
		var batch []string
		for more && len(batch) < batchSize && len(batch) != r.left {
			id, err, ok := next()
			if r.noteCut(err) {
				continue
			}
			if err != nil {
				return err
			}
			if more = ok; ok && !slices.Contains(busy, id) {
				batch = append(batch, id)
			}
		}
		if err := r.batch(ctx, app, batch); err != nil {
			return err
		}
	}
	return nil
}

// noteCut reports whether an error says only that earlier tasks are not in the results, and notes
// it in the counts. Of several, the latest counts.
func (r *Redriver) noteCut(err error) bool {
	var cut *tasks.ResultsCutError
	if !errors.As(err, &cut) {
		return false
	}
	if r.counts.Cut == nil {
		r.counts.Cut = make(map[string]time.Time)
	}
	r.counts.Cut[cut.App] = cut.Start
	return true
}

func withoutErrors(ids iter.Seq[string]) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ids(func(id string) bool { return yield(id, nil) })
	}
}

// batch redrives tasks concurrently and returns the first error.
func (r *Redriver) batch(ctx context.Context, app string, ids []string) error {
	var (
		mu    sync.Mutex
		first error
		all   sync.WaitGroup
	)
	failed := func() bool { mu.Lock(); defer mu.Unlock(); return first != nil }
	next := make(chan string)
	for range min(parallelism, len(ids)) {
		all.Go(func() {
			for id := range next {
				if failed() {
					continue
				}
				done, err := r.cfg.Inspector.Redrive(ctx, app, id, r.cfg.Filter)
				mu.Lock()
				if r.count(done); first == nil {
					first = err
				}
				mu.Unlock()
			}
		})
	}
	for _, id := range ids {
		next <- id
	}
	close(next)
	all.Wait()
	if r.cfg.OnProgress != nil {
		r.cfg.OnProgress(r.counts)
	}
	return first
}

func (r *Redriver) count(done tasks.RedriveResult) {
	switch done {
	case tasks.RedriveDone:
		r.counts.Redriven++
		if r.left > 0 {
			r.left--
		}
	case tasks.RedriveUnmatched:
		r.counts.Unmatched++
	case tasks.RedriveExpired:
		r.counts.Expired++
	case tasks.RedriveNoPayload:
		r.counts.NoPayload++
	case tasks.RedriveBusy:
		r.counts.Busy++
	}
}
