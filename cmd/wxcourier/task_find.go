package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/inspect"
	"github.com/wxcourier/wxcourier/internal/printable"
)

// criteria returns the criterion of a search, or an error where there is none or more than one.
func (c *taskCommand) criteria() (q inspect.FindQuery, err error) {
	given := filled(c.ID, c.OpenID, c.RID, c.MsgID)
	switch {
	case len(given) != 1:
		return q, usageErrorf("give the id of a task, --openid, --rid or --msgid, and only one of them")
	case c.ID != "" && c.App == "":
		return q, usageErrorf("--app is missing: ids are unique within an app only")
	}
	return inspect.FindQuery{OpenID: c.OpenID, RID: c.RID, MsgID: c.MsgID}, nil
}

// find searches the given app, or all apps that are configured or known, and prints what it has found.
func (c *taskCommand) find(p *program, parts *app.Parts, q inspect.FindQuery) error {
	if q.Apps = []string{c.App}; c.App == "" {
		known, err := parts.Inspector.Apps(p.ctx)
		if err != nil {
			return err
		}
		for _, configured := range parts.Current().Apps {
			known = append(known, configured.ID)
		}
		q.Apps = known
	}
	found, err := reader(parts).Find(p.ctx, q)
	for err == nil && len(found.Items) == 0 && found.Cursor != "" { // the results of up to 20,000 tasks have another rid or msgid
		q.Cursor = found.Cursor
		found, err = reader(parts).Find(p.ctx, q)
	}
	switch {
	case err != nil:
		return err
	case len(found.Items) == 0 && q.OpenID != "":
		return errors.New("no task for this openid is known: its result is no longer kept, it was enqueued before this version, or results.index_openids is false")
	case len(found.Items) == 0:
		return errors.New("no result has it: a task has it only after its end, and for as long as its result is kept")
	case c.JSON:
		encoder := json.NewEncoder(printable.JSONWriter(p.stdout))
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(found)
	case len(found.Items) == 1:
		one := found.Items[0]
		return c.show(p, parts, one.App, one.ID)
	}
	if found.Cursor != "" {
		p.notef("note: only the newest %d tasks are listed", len(found.Items))
	}
	return writeFound(p.stdout, found.Items)
}

// writeFound prints a line for each task.
func writeFound(w io.Writer, items []inspect.Found) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "ENQUEUED\tAPP\tID\tTYPE\tSTATE\t")
	for _, f := range items {
		state := string(f.Place)
		if f.Outcome != "" {
			state = strings.Join(filled(outcomeText(f.Result), deliveryText(f.Result)), ", ")
		}
		cells := []string{stamp(f.EnqueuedAt), f.App, f.ID, f.Type, state}
		for i := range cells {
			cells[i] = printable.Escape(cells[i])
		}
		_, _ = fmt.Fprintln(table, strings.Join(slices.Concat(cells, []string{""}), "\t"))
	}
	return table.Flush()
}
