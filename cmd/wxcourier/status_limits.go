package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/wxcourier/wxcourier/internal/summary"
	"github.com/wxcourier/wxcourier/ratelimit"
)

// writeLimits prints the configured limit, WeChat's limit and the use of each window. A window
// that several lanes share is printed once.
func (o overview) writeLimits(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	written := make(map[string]bool)
	for _, l := range o.Lanes {
		for _, u := range l.Windows {
			key := l.App + " " + u.Name + " " + string(u.Window)
			if written[key] {
				continue
			}
			if len(written) == 0 {
				_, _ = fmt.Fprintln(table, "\nAPP\tLIMIT\tWINDOW\tCONFIGURED\tWECHAT\tUSED\tPACE")
			}
			written[key] = true
			_, _ = fmt.Fprintln(table, strings.Join(append([]string{l.App, u.Name}, limitCells(u)...), "\t"))
		}
	}
}

// limitCells returns the cells of one window.
func limitCells(u ratelimit.Usage) []string {
	count := func(n int64) string {
		if n == 0 {
			return "-"
		}
		return summary.Number(int(n))
	}
	used := summary.Number(int(u.Used)) + " of " + summary.Number(int(u.Effective()))
	return []string{string(u.Window), count(u.Limit), count(u.Learned), used, paceText(u)}
}

// paceText returns the pace factor of a window; "-" for day and total, which have none.
func paceText(u ratelimit.Usage) string {
	switch {
	case u.Window == ratelimit.PerDay || u.Window == ratelimit.Total:
		return "-"
	case u.Factor < 1:
		return fmt.Sprintf("slowed to %.0f %%", math.Floor(100*u.Factor+1e-9))
	}
	return "full"
}
