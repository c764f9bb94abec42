package main

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

// notef prints a line to standard error.
func (p *program) notef(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, format+"\n", args...)
}

// printJSON prints a value as one line of JSON.
func (p *program) printJSON(v any) error {
	out := printable.NewJSONLines(p.stdout)
	return errors.Join(out.Write(v), out.Flush())
}

// A sink writes results in one output format.
type sink interface {
	Write(v any) error
	Flush() error
}

// tableSink writes columns of fixed widths, so that it need not know all results first.
type tableSink struct {
	w     *bufio.Writer
	begun bool
}

const tableRow = "%-19s  %-18s  %-17s  %-8s  %7s  %-24s  %s"

// Write writes the row of a result.
func (s *tableSink) Write(v any) error {
	r, _ := v.(tasks.Result)
	if !s.begun {
		s.begun = true
		if err := s.line("FINISHED", "APP", "TYPE", "OUTCOME", "ERRCODE", "ID", "DETAIL"); err != nil {
			return err
		}
	}
	at := r.FinishedAt
	if r.IsReceipt() {
		at = r.ReceiptAt
	}
	details := strings.Join(filled(detail(r), deliveryText(r)), " ")
	return s.line(stamp(at), r.App, r.Type, string(r.Outcome), strconv.Itoa(r.ErrCode), r.ID, details)
}

func (s *tableSink) line(cells ...any) error {
	_, err := fmt.Fprintln(s.w, printable.Escape(strings.TrimRight(fmt.Sprintf(tableRow, cells...), " ")))
	return err
}

// Flush writes the rows so far.
func (s *tableSink) Flush() error { return s.w.Flush() }

// detail returns the most important fields of a result.
func detail(r tasks.Result) string {
	generation := ""
	if r.Generation > 0 {
		generation = fmt.Sprintf("(generation %d)", r.Generation)
	}
	if r.Outcome != tasks.OutcomeAccepted {
		return strings.Join(filled(r.Reason, r.ErrMsg, r.RID, generation), " ")
	}
	return strings.Join(filled(r.OpenLink, r.URLLink, r.Link, r.Suggest, r.Label, r.MsgID, r.Image, generation), " ")
}

// deliveryText returns the receipt of a result with WeChat's text, "" without one.
func deliveryText(r tasks.Result) string {
	if r.ReceiptStatus == "" || r.ReceiptStatus == "success" {
		return string(r.Receipt)
	}
	return fmt.Sprintf("%s (%s)", r.Receipt, r.ReceiptStatus)
}

func filled(texts ...string) []string {
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" })
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.DateTime)
}
