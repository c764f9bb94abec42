package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/audit"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type cancelCommand struct {
	App   string   `required:"" placeholder:"ID" help:"The app of the tasks."`
	ID    []string `name:"id" required:"" xor:"what" placeholder:"ID" help:"Ids of the tasks; - reads ids from standard input, one per line."`
	Batch string   `required:"" xor:"what" placeholder:"NAME" help:"All tasks of this batch."`
	JSON  bool     `help:"Print the counts as JSON."`
}

func (cancelCommand) Help() string {
	return `Cancels tasks that have not been sent. Canceled tasks are marked, and end as canceled when a worker reaches them. A task that is being sent ends as canceled only if WeChat does not accept it. A task whose earlier request got no answer ends as unknown instead.

The command prints how many tasks it found in which state; repeating it is safe. Canceling a batch sets one mark on the batch, which also applies to tasks added to the batch before it ends.

Examples:
    wxcourier cancel --app wx0123456789abcdef --id order-42-shipped
    wxcourier cancel --app wx0123456789abcdef --batch spring-sale
    wxcourier cancel --app wx0123456789abcdef --id - < ids.txt`
}

// cancelChunk is the number of ids canceled per call; the progress line is updated after each.
const cancelChunk = 5000

// Run cancels the named tasks or the batch.
func (c *cancelCommand) Run(p *program) error {
	if err := validApps([]string{c.App}); err != nil {
		return err
	}
	if c.Batch != "" && !tasks.ValidBatch(c.Batch) {
		return usageErrorf("--batch: %q is not a valid batch name", c.Batch)
	}
	if err := validIDs(c.ID); err != nil {
		return err
	}
	cfg, err := p.needRedis("cancel")
	if err != nil {
		return err
	}
	rdb, err := app.OpenRedis(p.ctx, cfg.Redis)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	client := tasks.NewClient(rdb)
	defer client.Close()
	if c.Batch != "" {
		return c.batch(p, rdb, client)
	}
	counts, err := c.ids(p, client)
	p.stderr.Status("")
	if n := counts.Canceled + counts.Sending; n > 0 {
		e := audit.Entry{Action: audit.Cancel, App: c.App, Count: int64(n)}
		if len(c.ID) == 1 && c.ID[0] != "-" {
			e.Target = c.ID[0]
		}
		p.audit(rdb, e)
	}
	return errors.Join(p.unlessInterrupted(err), c.show(p, counts, canceledText(counts)))
}

func (c *cancelCommand) batch(p *program, rdb redis.UniversalClient, client *tasks.Client) error {
	open, err := client.CancelBatch(p.ctx, c.App, c.Batch)
	if errors.Is(err, tasks.ErrNotFound) {
		return fmt.Errorf("app %s has no batch %s, or its results are no longer kept", c.App, c.Batch)
	}
	if err != nil {
		return err
	}
	p.audit(rdb, audit.Entry{Action: audit.CancelBatch, App: c.App, Target: c.Batch, Count: open})
	counts, err := client.Batch(p.ctx, c.App, c.Batch)
	if err != nil {
		return err
	}
	text := describe.Count(int(open), "unfinished task") + " canceled; those not yet sent will not be"
	if done := counts["done"]; done > 0 {
		text += "; " + describe.Count(int(done), "task") + " had already ended"
	}
	return c.show(p, map[string]int64{"open": open, "done": counts["done"]}, text)
}

// ids cancels the named tasks, each once.
func (c *cancelCommand) ids(p *program, client *tasks.Client) (sum tasks.CancelCounts, err error) {
	chunk, done := make([]string, 0, cancelChunk), 0
	cancel := func() error {
		n, err := client.Cancel(p.ctx, c.App, chunk...)
		sum.Canceled, sum.Sending, sum.Done, sum.Missing = sum.Canceled+n.Canceled, sum.Sending+n.Sending, sum.Done+n.Done, sum.Missing+n.Missing
		done += len(chunk)
		chunk = chunk[:0]
		p.stderr.Status(describe.Count(done, "task"))
		return err
	}
	ids := idReader{program: p}
	for id := range ids.all(c.ID) {
		if chunk = append(chunk, id); len(chunk) == cancelChunk {
			if err := cancel(); err != nil {
				return sum, err
			}
		}
	}
	return sum, errors.Join(cancel(), ids.err())
}

func (c *cancelCommand) show(p *program, counts any, text string) error {
	if c.JSON {
		return json.NewEncoder(p.stdout).Encode(counts)
	}
	_, err := fmt.Fprintln(p.stdout, text)
	return err
}

func canceledText(n tasks.CancelCounts) string {
	parts := []string{describe.Count(n.Canceled, "task") + " will not be sent"}
	for _, count := range []struct {
		n    int
		text string
	}{{n.Sending, "being sent now"}, {n.Done, "already ended"}, {n.Missing, "not found"}} {
		if count.n > 0 {
			parts = append(parts, summary.Number(count.n)+" "+count.text)
		}
	}
	return strings.Join(parts, ", ")
}
