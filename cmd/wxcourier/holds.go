package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// holdText tells of a hold in one line.
func holdText(h ratelimit.Hold) string {
	text := fmt.Sprintf("%s %s: %s", h.App, scopeText(h.Scope), reasonText(h))
	if h.Code != 0 {
		text += fmt.Sprintf(" (errcode %d)", h.Code)
	}
	return text + ", " + untilText(h)
}

func scopeText(scope string) string {
	if scope == ratelimit.WholeApp {
		return "all types"
	}
	return scope
}

func reasonText(h ratelimit.Hold) string { return strings.ReplaceAll(h.Reason, "_", " ") }

func untilText(h ratelimit.Hold) string {
	if h.Until.IsZero() {
		return "until lifted"
	}
	return "until " + h.Until.Local().Format(time.DateTime)
}

// writeHolds lists holds as a table.
func writeHolds(w io.Writer, holds []ratelimit.Hold) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintln(table, "APP\tHELD\tREASON\tERRCODE\tSINCE\tUNTIL\tBY")
	for _, h := range holds {
		code := "-"
		if h.Code != 0 {
			code = strconv.Itoa(h.Code)
		}
		until := untilText(h)
		if !h.Until.IsZero() {
			until = h.Until.Local().Format(time.DateTime)
		}
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			h.App, scopeText(h.Scope), reasonText(h), code, h.Since.Local().Format(time.DateTime), until, h.By,
		}, "\t"))
	}
}
