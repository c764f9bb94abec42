package filerun

import (
	"context"
	"errors"
	"fmt"

	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// messagef writes a message.
func (r *Run) messagef(format string, args ...any) {
	_, _ = fmt.Fprintf(r.cfg.Messages, format+"\n", args...)
}

// onResult handles one outcome. With a journal its writer writes the result.
func (r *Run) onResult(ctx context.Context, result tasks.Result) {
	err := r.cfg.Images.Save(ctx, r.parts.Tasks, result, r.journal != nil)
	if spec, _ := tasks.Lookup(result.Type); r.usesEmbedded() && !spec.Callback { // whose copy a worker ends later
		r.deleteRecord(ctx, result)
	}
	if err != nil {
		r.imageError(err)
	}
	if r.journal != nil {
		r.journal.results <- journalResult{result, err == nil}
		return
	}
	r.write(result)
}

// write writes and counts one outcome.
func (r *Run) write(result tasks.Result) {
	if err := r.out.Write(result); err != nil {
		r.cancel(fmt.Errorf("write the results: %w", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.summary.Add(result)
}

// onError reports that results cannot be read, or that a record is gone.
func (r *Run) onError(err error) {
	var lost *ingest.LostError
	if errors.As(err, &lost) {
		r.messagef("%v", err)
		return
	}
	r.cfg.Log.Warn("the results cannot be read at the moment", "err", err)
}

func (r *Run) imageError(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.imageErrors++
	r.messagef("%v", err)
}

// deleteRecord deletes a task's record from the embedded Redis, which only this run uses: records
// take memory and slow it down.
func (r *Run) deleteRecord(ctx context.Context, result tasks.Result) {
	_ = r.parts.Redis.Del(ctx, ledger.TaskKey(result.App, result.ID)).Err() // on an error it expires later
}
