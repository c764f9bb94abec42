package console

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/resultcsv"
	"github.com/wxcourier/wxcourier/tasks"
)

func (c *Console) batchPage() page {
	return page{name: "batch", path: "/batches/{app}/{batch}", live: true, load: c.loadBatch}
}

func (c *Console) cancelBatchPage() page {
	return confirmPage("/batches/{app}/{batch}/cancel", c.loadCancelBatch, c.postCancelBatch)
}

// batchData is the data of the page of a batch.
type batchData struct {
	inspect.Batch
	URL      string
	Bar      bar
	Share    float64 // of its tasks that have ended
	Ended    bool    // no task of it is open
	Outcomes []batchOutcome
	Receipts []batchReceipt // none if no message of the batch has one
	OpenURL  string
	Queues   []inspect.Queue
	Stop     []hold.Hold // that stop tasks of it
	End      batchEnd
	Quotas   []batchQuota
	Closed   []closedHours
	Kept     time.Duration // for which the result of a task is kept; 0: unknown
}

// batchReceipt is a row of the receipts.
type batchReceipt struct {
	Badge   string // "": messages without one
	Count   int64
	Share   float64 // of the accepted tasks
	FindURL string  // "": of messages without one
}

// batchReceipts returns the receipts of a batch, and how many messages have none yet.
func batchReceipts(b inspect.Batch) (rows []batchReceipt) {
	if len(b.Receipts) == 0 {
		return nil
	}
	add := func(badge string, n int64) {
		if n == 0 {
			return
		}
		row := batchReceipt{Badge: badge, Count: n, Share: float64(n) / float64(max(1, b.Outcomes[tasks.OutcomeAccepted]))}
		if badge != "" {
			row.FindURL = batchFindURL(b, badge)
		}
		rows = append(rows, row)
	}
	for _, receipt := range tasks.DeliveryReceipts() {
		add(receiptBadge(receipt), b.Receipts[receipt])
	}
	add("", b.WithoutReceipt())
	return rows
}

// batchOutcome is a row of the outcomes.
type batchOutcome struct {
	Outcome tasks.Outcome
	Count   int64
	Share   float64
	FindURL string
	// RedriveURL is "" if the outcome cannot be undone; Not is then the text that says why.
	RedriveURL, Not string
}

// batchQuota is a day's limit that the open tasks use.
type batchQuota struct {
	Name  string
	Left  int64 // for tasks as those of the batch
	Limit int64
	Bar   bar
}

// closedHours are hours that hold tasks of the batch back now.
type closedHours struct {
	Type    string
	OpensAt time.Time
}

// batchReading is what is read of a batch for all viewers.
type batchReading struct {
	batch  inspect.Batch
	queues map[inspect.Queue]float64
}

// readBatch reads the batch that a path names.
func (c *Console) readBatch(r *request) (b batchReading, err error) {
	app, batch := r.PathValue("app"), r.PathValue("batch")
	if err := r.require(apikey.Read, app); err != nil {
		return b, err
	}
	if !tasks.ValidApp(app) || !tasks.ValidBatch(batch) {
		return b, faultf(http.StatusNotFound, "batch.missing")
	}
	b, err = shared(r.Context(), c, "batch "+app+" "+batch, func(ctx context.Context) (batchReading, error) {
		counts, err := c.Reader.Batch(ctx, app, batch)
		if err != nil || counts.Open == 0 {
			return batchReading{batch: counts}, err
		}
		queues, err := c.Reader.BatchQueues(ctx, app, batch)
		return batchReading{counts, queues}, err
	})
	if errors.Is(err, tasks.ErrNotFound) {
		err = faultf(http.StatusNotFound, "batch.missing")
	}
	return b, err
}

// loadBatch shows the progress of a batch.
func (c *Console) loadBatch(r *request) (any, error) {
	b, err := c.readBatch(r)
	if err != nil {
		return nil, err
	}
	data := newBatch(r, b)
	data.Kept = c.Retention
	if data.Ended {
		return data, nil
	}
	state, err := c.state(r.Context())
	if err != nil {
		return nil, err
	}
	s := batchSituation{
		now: r.now, state: state, hours: c.hoursOf(b.batch.App), concurrency: c.Limiter.Concurrency, margin: c.Margin,
	}
	data.Stop = s.stop(b)
	data.End = s.end(b)
	data.Quotas = s.quotas(r, b)
	data.Closed = s.closed(b)
	return data, nil
}

// hoursOf returns the hours of an app, nil for none.
func (c *Console) hoursOf(app string) inspect.Hours {
	for _, a := range c.Apps() {
		if a.ID == app {
			return a.Hours
		}
	}
	return nil
}

// newBatch returns what the counters of a batch tell.
func newBatch(r *request, b batchReading) batchData {
	of := b.batch
	data := batchData{
		Batch: of, URL: batchURL(of.App, of.Batch), Bar: batchBar(r, of), Ended: of.Open == 0,
		Share: float64(of.Done) / float64(max(1, of.Total)), Queues: sortedQueues(b.queues),
		OpenURL: batchFindURL(of, string(inspect.PlaceWaiting)),
	}
	for _, outcome := range tasks.Outcomes() {
		n := of.Outcomes[outcome]
		if n == 0 {
			continue
		}
		row := batchOutcome{
			Outcome: outcome, Count: n, Share: float64(n) / float64(max(1, of.Total)), FindURL: batchFindURL(of, string(outcome)),
		}
		if slices.Contains(tasks.Redrivable(), outcome) {
			row.RedriveURL = redriveFilter{App: of.App, Batch: of.Batch, Outcome: outcome, Back: data.URL}.URL()
		} else {
			row.Not = "redrive.not." + string(outcome)
		}
		data.Outcomes = append(data.Outcomes, row)
	}
	data.Receipts = batchReceipts(of)
	return data
}

// batchFindURL returns the URL of the tasks of a batch with an outcome, in a place, or with the receipt of
// a badge.
func batchFindURL(b inspect.Batch, status string) string {
	return "/find?" + url.Values{"app": {b.App}, "batch": {b.Batch}, "status": {status}}.Encode()
}

// loadCancelBatch asks with the number of open tasks.
func (c *Console) loadCancelBatch(r *request) (any, error) {
	if err := r.require(apikey.Enqueue, r.PathValue("app")); err != nil {
		return nil, err
	}
	b, err := c.readBatch(r)
	if err != nil {
		return nil, err
	}
	if b.batch.Open == 0 {
		return nil, faultf(http.StatusConflict, "batch.cancel.none")
	}
	return confirmation{
		Title: r.says("batch.cancel.title"), Question: r.says("batch.cancel.ask", b.batch.Open, b.batch.Batch),
		Notes: []string{r.says("batch.cancel.note"), r.says("batch.cancel.join")}, Button: r.says("batch.cancel.do", b.batch.Open),
		Back: batchURL(b.batch.App, b.batch.Batch),
	}, nil
}

// postCancelBatch cancels the open tasks of a batch.
func (c *Console) postCancelBatch(r *request) (string, error) {
	app, batch := r.PathValue("app"), r.PathValue("batch")
	if err := r.require(apikey.Enqueue, app); err != nil {
		return "", err
	}
	if !tasks.ValidApp(app) || !tasks.ValidBatch(batch) {
		return "", faultf(http.StatusNotFound, "batch.missing")
	}
	open, err := c.Tasks.CancelBatch(r.Context(), app, batch)
	if errors.Is(err, tasks.ErrNotFound) {
		return "", faultf(http.StatusNotFound, "batch.missing")
	}
	if err != nil {
		return "", err
	}
	c.record(r, audit.Entry{Action: audit.CancelBatch, App: app, Target: batch, Count: open})
	c.cache.forget("batch " + app + " " + batch)
	r.notice("batch.canceled", open)
	return batchURL(app, batch), nil
}

// reportPath is the path of the report of a batch.
const reportPath = "/batches/{app}/{batch}/report.csv"

// reportFlush is how many rows of a report are written at a time.
const reportFlush = 500

// serveBatchReport sends the tasks of a batch as CSV, page by page as they are read.
func (c *Console) serveBatchReport(w http.ResponseWriter, r *request) {
	p := page{name: "batch"}
	b, err := c.readBatch(r)
	if err != nil {
		c.answer(w, r, p, 0, nil, err)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/csv; charset=utf-8")
	header.Set("Content-Disposition", `attachment; filename="`+b.batch.App+"-"+b.batch.Batch+`.csv"`) // both names are safe
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")
	if err := c.writeBatchReport(w, r, b.batch); err != nil {
		c.logFailure(r, p, err)
		panic(http.ErrAbortHandler) // a part was sent: the browser must not take it for the whole
	}
}

func (c *Console) writeBatchReport(w http.ResponseWriter, r *request, b inspect.Batch) error {
	sheet, rows := resultcsv.NewSheet(w), 0
	for task, err := range c.Reader.BatchTasks(r.Context(), b.App, b.Batch) {
		if err != nil {
			return err
		}
		if err := sheet.Write(task); err != nil {
			return err
		}
		if rows++; rows%reportFlush == 0 {
			if err := sheet.Flush(); err != nil {
				return err
			}
		}
	}
	return sheet.Flush()
}
