package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/tasks"
)

// maxWait is the longest time for which a request may wait.
const maxWait = time.Minute

// waitParam is the parameter wait: a duration such as 30s, or a number of seconds.
type waitParam struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler. The error does not contain the text.
func (w *waitParam) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if seconds, numeric := strconv.ParseUint(string(text), 10, 16); numeric == nil {
		d, err = time.Duration(seconds)*time.Second, nil
	}
	if err != nil || d < 0 || d > maxWait {
		return errors.New(ownFault + "a duration of at most 60s, such as 30s")
	}
	w.Duration = d
	return nil
}

// Schema implements huma.SchemaProvider.
func (waitParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Pattern: `^[0-9.]+(ms|s|m)?$`, Examples: []any{"30s"},
		Description: "Answer when the task has ended, at the latest after this time (at most 60s).",
	}
}

// Waiting is the part of an input with the parameter wait. It is exported since huma looks at
// embedded structs only if they are.
type Waiting struct {
	Wait waitParam `query:"wait"`
}

// Resolve implements huma.Resolver. It lifts the deadlines of the connection, which may be shorter
// than the wait.
func (in *Waiting) Resolve(ctx huma.Context) []error {
	if in.Wait.Duration > 0 {
		_, w := humago.Unwrap(ctx)
		control := http.NewResponseController(w)
		_ = control.SetReadDeadline(time.Time{}) // a writer that cannot do this has no deadlines
		_ = control.SetWriteDeadline(time.Time{})
	}
	return nil
}

// lookEvery is how often a waiting request looks at its task by itself, for outcomes that the
// streams no longer have.
const lookEvery = 5 * time.Second

// await reads a task when it has an outcome, or after wait at the latest.
func (a *API) await(ctx context.Context, app, id string, wait time.Duration) (inspect.Task, error) {
	over := time.NewTimer(wait)
	defer over.Stop()
	if t, err := a.readTask(ctx, app, id); err != nil || t.Outcome != "" || wait == 0 {
		return t, err
	}
	ended, stop, err := a.followers.Follow(ctx, app, id)
	if err != nil {
		return inspect.Task{}, err
	}
	defer stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		// After Follow, so that no outcome is missed. While Redis does not answer, wait on.
		r, err := a.Tasks.Recorded(ctx, app, id)
		if errors.Is(err, tasks.ErrNotFound) || err == nil && r.Outcome != "" {
			return a.readTask(ctx, app, id)
		}
		select {
		case <-ended:
		case <-look.C:
		case <-over.C:
			return a.readTask(ctx, app, id)
		case <-a.ending:
			return a.readTask(ctx, app, id)
		case <-ctx.Done():
			return inspect.Task{}, ctx.Err()
		}
	}
}

func (a *API) readTask(ctx context.Context, app, id string) (inspect.Task, error) {
	configured, _ := a.app(app) // an app that has left has no hours
	return a.Reader.Task(ctx, app, id, configured.Hours)
}
