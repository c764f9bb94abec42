package console

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) batchesPage() page {
	return page{name: "batches", path: "/batches", nav: true, live: true, load: c.loadBatches}
}

const (
	batchRows  = 50
	batchScan  = 200 // batches that are read at a time for one of a name
	batchPages = 10  // of them, for one page of the list
)

// batchFilter is what a URL of the list selects.
type batchFilter struct {
	App, Name, Before string
}

// batchesData is the data of the list of batches.
type batchesData struct {
	Filter batchFilter
	Apps   []string
	Rows   []batchRow
	Pager  pager
}

// batchRow is a batch of the list.
type batchRow struct {
	inspect.RecentBatch
	URL   string
	Bar   bar
	Ended bool // no task of it is open
	Stop  []hold.Hold
}

// batchURL returns the path of the page of a batch.
func batchURL(app, batch string) string { return "/batches/" + app + "/" + url.PathEscape(batch) }

// loadBatches lists the batches by their last enqueue.
func (c *Console) loadBatches(r *request) (any, error) {
	v := r.URL.Query()
	data := batchesData{Filter: batchFilter{v.Get("app"), strings.TrimSpace(v.Get("name")), v.Get("before")}, Apps: r.apps()}
	apps, err := c.findApps(r, data.Filter.App)
	if err != nil {
		return nil, err
	}
	before, _ := time.Parse(time.RFC3339Nano, data.Filter.Before) // else the first page
	found, more, err := c.recentBatches(r, apps, before, data.Filter.Name)
	if err != nil {
		return nil, err
	}
	state, err := c.state(r.Context())
	if err != nil {
		return nil, err
	}
	for _, b := range found {
		row := newBatchRow(r, b)
		if row.Stop, err = c.stopsOf(r.Context(), b.Batch, state.Holds); err != nil {
			return nil, err
		}
		data.Rows = append(data.Rows, row)
	}
	data.Pager = data.Filter.pager(found, more)
	return data, nil
}

// recentBatches reads a page of the list. The first one without a name is read once for all viewers
// with the same apps.
func (c *Console) recentBatches(r *request, apps []string, before time.Time, name string) (found []inspect.RecentBatch, more bool, err error) {
	if name == "" && before.IsZero() {
		found, err = shared(r.Context(), c, "batches "+strings.Join(apps, " "), func(ctx context.Context) ([]inspect.RecentBatch, error) {
			return c.Reader.RecentBatches(ctx, apps, time.Time{}, batchRows)
		})
		return found, len(found) == batchRows, err
	}
	for range batchPages {
		page, err := c.Reader.RecentBatches(r.Context(), apps, before, batchScan)
		if err != nil {
			return nil, false, err
		}
		for _, b := range page {
			if !strings.Contains(strings.ToLower(b.Batch.Batch), strings.ToLower(name)) {
				continue
			}
			if found = append(found, b); len(found) == batchRows {
				return found, true, nil
			}
		}
		if len(page) < batchScan {
			return found, false, nil
		}
		before = page[len(page)-1].LastEnqueued
	}
	return found, len(found) > 0, nil
}

// pager returns the links of a page of the list.
func (f batchFilter) pager(found []inspect.RecentBatch, more bool) (p pager) {
	v := make(url.Values)
	for name, text := range map[string]string{"app": f.App, "name": f.Name} {
		if text != "" {
			v.Set(name, text)
		}
	}
	link := func() string { return strings.TrimSuffix("/batches?"+v.Encode(), "?") }
	if f.Before != "" {
		p.First = link()
	}
	if more {
		v.Set("before", found[len(found)-1].LastEnqueued.UTC().Format(time.RFC3339Nano))
		p.Next = link()
	}
	return p
}

func newBatchRow(r *request, b inspect.RecentBatch) batchRow {
	return batchRow{RecentBatch: b, URL: batchURL(b.App, b.Batch.Batch), Ended: b.Open == 0, Bar: batchBar(r, b.Batch)}
}

// stopsOf returns the holds that stop open tasks of a batch. It reads in which queues they are only if
// a hold of its app stops some types.
func (c *Console) stopsOf(ctx context.Context, b inspect.Batch, holds []hold.Hold) (stop []hold.Hold, err error) {
	var queues map[inspect.Queue]float64
	for _, h := range holds {
		if b.Open == 0 || h.App != b.App || hold.IsTemplate(h.Scope) {
			continue
		}
		if queues == nil && h.Scope != hold.WholeApp {
			queues, err = shared(ctx, c, "queues "+b.App+" "+b.Batch, func(ctx context.Context) (map[inspect.Queue]float64, error) {
				return c.Reader.BatchQueues(ctx, b.App, b.Batch)
			})
			if err != nil {
				return nil, err
			}
		}
		stops := h.Scope == hold.WholeApp
		for q := range queues {
			stops = stops || stopsQueue(h, b.App, q)
		}
		if stops {
			stop = append(stop, h)
		}
	}
	return stop, nil
}

// batchBar returns the bar of a batch: its ended tasks by outcome.
func batchBar(r *request, b inspect.Batch) bar {
	var shares []share
	for _, outcome := range tasks.Outcomes() {
		shares = append(shares, share{string(outcome), b.Outcomes[outcome]})
	}
	return newBar(r.says("batches.ended.of", b.Done, b.Total), b.Total, shares...)
}
