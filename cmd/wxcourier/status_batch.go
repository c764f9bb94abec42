package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/tasks"
)

// batch prints the progress of a batch, of each app that has one of this name.
func (c *statusCommand) batch(p *program, parts *app.Parts) error {
	var configured []string
	for _, app := range parts.Current().Apps {
		configured = append(configured, app.ID)
	}
	wanted := func(id string) bool { return len(c.App) == 0 || slices.Contains(c.App, id) }
	batches, err := reader(parts).Batches(p.ctx, append(configured, c.App...), wanted, c.Batch)
	if err != nil {
		return err
	}
	if len(batches) == 0 {
		return fmt.Errorf("there is no batch %s, or its results are no longer kept", c.Batch)
	}
	if c.JSON {
		encoder := json.NewEncoder(printable.JSONWriter(p.stdout))
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(map[string]any{"batches": batches})
	}
	for i, b := range batches {
		if i > 0 {
			_, _ = fmt.Fprintln(p.stdout)
		}
		writeBatch(p.stdout, b, time.Now())
	}
	return nil
}

// reader returns the reader of the parts' Redis.
func reader(parts *app.Parts) *inspect.Reader {
	return inspect.NewReader(parts.Redis, parts.Limiter, parts.Holds)
}

func writeBatch(w io.Writer, b inspect.Batch, now time.Time) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	share := 100
	if b.Total > 0 {
		share = int(100 * b.Done / b.Total)
	}
	line("Batch %s of %s: %s of %s ended (%d %%)", b.Batch, b.App, summary.Number(int(b.Done)), describe.Count(int(b.Total), "task"), share)
	var outcomes []string
	for _, outcome := range tasks.Outcomes() {
		if n := b.Outcomes[outcome]; n > 0 {
			outcomes = append(outcomes, summary.Number(int(n))+" "+string(outcome))
		}
	}
	if len(outcomes) > 0 {
		line("  outcomes: %s", strings.Join(outcomes, ", "))
	}
	if text := batchReceipts(b); text != "" {
		line("  receipts: %s", text)
	}
	switch {
	case b.Open == 0:
		return
	case b.Rate == 0:
		line("  rate:     unknown, and so is the time left: the result stream has no task of it from the last minute")
	default:
		left := time.Duration(min(b.SecondsLeft, 1e9) * float64(time.Second))
		line("  rate:     %s a second; at this rate the last of %s ends in about %s, at %s",
			rateText(b.Rate), describe.Count(int(b.Open), "open task"), describe.Coarse(left), now.Add(left).Local().Format(time.DateTime))
	}
	for _, h := range b.Holds {
		line("  held:     %s", describe.Hold(h))
	}
}

// batchReceipts returns how many messages of a batch have which receipt; "" if none has one.
func batchReceipts(b inspect.Batch) string {
	if len(b.Receipts) == 0 {
		return ""
	}
	var texts []string
	for _, receipt := range tasks.DeliveryReceipts() {
		if n := b.Receipts[receipt]; n > 0 {
			texts = append(texts, summary.Number(int(n))+" "+string(receipt))
		}
	}
	if n := b.WithoutReceipt(); n > 0 {
		texts = append(texts, summary.Number(int(n))+" still without")
	}
	return strings.Join(texts, ", ")
}

// rateText prints a rate with two digits or as a whole number.
func rateText(rate float64) string {
	if rate >= 10 {
		return summary.Number(int(math.Round(rate)))
	}
	return fmt.Sprintf("%.2g", rate)
}
