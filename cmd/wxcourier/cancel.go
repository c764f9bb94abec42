package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

type cancelCommand struct {
	App   string   `required:"" placeholder:"ID" help:"The app of the tasks."`
	ID    []string `name:"id" required:"" xor:"what" placeholder:"ID" help:"These tasks; - reads ids from standard input, one a line."`
	Batch string   `required:"" xor:"what" placeholder:"NAME" help:"All tasks of this batch, however many."`
	JSON  bool     `help:"As JSON."`
}

func (cancelCommand) Help() string {
	return `Takes back tasks that have not left yet. They are marked, and end as canceled when their turn comes; what is being sent right now ends as canceled only if WeChat does not take it. Where an earlier request got no answer, the outcome is unknown instead.

It says how many it met in which state, and may be repeated. A batch is taken back with one mark, which tasks that join it later share until the batch has ended.

Examples:
    wxcourier cancel --app wx0123456789abcdef --id order-42-shipped
    wxcourier cancel --app wx0123456789abcdef --batch spring-sale
    wxcourier cancel --app wx0123456789abcdef --id - < ids.txt`
}

// cancelChunk is how many ids are canceled before the person at the terminal hears of it.
const cancelChunk = 5000

// Run takes tasks back.
func (c *cancelCommand) Run(p *program) error {
	if err := validApps([]string{c.App}); err != nil {
		return err
	}
	if c.Batch != "" && !tasks.ValidBatch(c.Batch) {
		return usageErrorf("--batch: %q is not a name of a batch", c.Batch)
	}
	if err := validIDs(c.ID); err != nil {
		return err
	}
	client, closeClient, err := p.taskClient("cancel")
	if err != nil {
		return err
	}
	defer closeClient()
	if c.Batch != "" {
		return c.batch(p, client)
	}
	counts, err := c.ids(p, client)
	p.stderr.Status("")
	return errors.Join(p.unlessInterrupted(err), c.show(p, counts, canceledText(counts)))
}

func (c *cancelCommand) batch(p *program, client *tasks.Client) error {
	open, err := client.CancelBatch(p.ctx, c.App, c.Batch)
	if errors.Is(err, tasks.ErrNotFound) {
		return fmt.Errorf("app %s has no batch %s, or its results are no longer kept", c.App, c.Batch)
	}
	if err != nil {
		return err
	}
	counts, err := client.Batch(p.ctx, c.App, c.Batch)
	if err != nil {
		return err
	}
	text := plural(int(open), "task") + " had not ended: what has not left will not be sent"
	if done := counts["done"]; done > 0 {
		text += "; " + plural(int(done), "task") + " had ended"
	}
	return c.show(p, map[string]int64{"open": open, "done": counts["done"]}, text)
}

// ids cancels the tasks that are named, each once.
func (c *cancelCommand) ids(p *program, client *tasks.Client) (sum tasks.Canceled, err error) {
	chunk, told := make([]string, 0, cancelChunk), 0
	cancel := func() error {
		n, err := client.Cancel(p.ctx, c.App, chunk...)
		sum.Taken, sum.Sending, sum.Done, sum.Missing = sum.Taken+n.Taken, sum.Sending+n.Sending, sum.Done+n.Done, sum.Missing+n.Missing
		told += len(chunk)
		chunk = chunk[:0]
		p.stderr.Status(plural(told, "task"))
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

func canceledText(n tasks.Canceled) string {
	parts := []string{plural(n.Taken, "task") + " will not be sent"}
	for _, part := range []struct {
		n    int
		text string
	}{{n.Sending, "being sent now"}, {n.Done, "ended before"}, {n.Missing, "not known"}} {
		if part.n > 0 {
			parts = append(parts, summary.Number(part.n)+" "+part.text)
		}
	}
	return strings.Join(parts, ", ")
}

// taskClient joins what a command needs that only looks at tasks and moves them.
func (p *program) taskClient(command string) (client *tasks.Client, closeRedis func(), err error) {
	cfg, err := p.needRedis(command)
	if err != nil {
		return nil, nil, err
	}
	rdb := cfg.Redis.NewClient()
	if err := pingRedis(p.ctx, cfg.Redis, rdb); err != nil {
		_ = rdb.Close()
		return nil, nil, err
	}
	return tasks.NewClient(rdb), func() { _ = rdb.Close() }, nil
}

// unlessInterrupted says of a command that a signal broke off that it may be repeated.
func (p *program) unlessInterrupted(err error) error {
	if p.ctx.Err() != nil {
		return errors.New("interrupted; the same command does the rest")
	}
	return err
}
