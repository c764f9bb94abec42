package campaign

import (
	"context"
	"encoding/csv"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/tasks"
)

// Progress is the progress of a batch.
type Progress struct {
	Total    int64                   `json:"total"` // tasks of the batch
	Done     int64                   `json:"done"`  // that have an outcome
	Outcomes map[tasks.Outcome]int64 `json:"outcomes"`
	// Gone: Redis does not keep the batch any more, since all its tasks ended long ago, or none was
	// enqueued.
	Gone bool `json:"gone,omitempty"`
}

// Drained reports whether every task of the batch has an outcome.
func (p Progress) Drained() bool { return p.Gone || p.Done >= p.Total }

// Progress reads the progress of a plan's batch, in one round trip.
func (s *Sender) Progress(ctx context.Context, p Plan) (Progress, error) {
	counts, err := s.client.Batch(ctx, p.App, p.Batch)
	if errors.Is(err, tasks.ErrNotFound) {
		return Progress{Outcomes: map[tasks.Outcome]int64{}, Gone: true}, nil
	}
	if err != nil {
		return Progress{}, err
	}
	progress := Progress{Total: counts["total"], Done: counts["done"], Outcomes: make(map[tasks.Outcome]int64)}
	for _, outcome := range tasks.Outcomes() {
		if n := counts[string(outcome)]; n > 0 {
			progress.Outcomes[outcome] = n
		}
	}
	return progress, nil
}

// reportLine is a row of the report: what became of a row of the table.
type reportLine struct {
	checkedRow
	result tasks.Result
	state  string // of a row without an outcome; "": at fault
}

// The states of rows without an outcome, besides those of tasks.
const (
	stateNotEnqueued = "not enqueued"
	stateExpired     = "enqueued; its result is no longer kept"
)

// reportColumns are the columns of a report.
func reportColumns() []string {
	return []string{"line", "receiver", "id", "state", "outcome", "errcode", "errmsg", "reason", "msgid", "rid", "finished_at", "problem", "receipt", "receipt_status", "receipt_at"}
}

func (r reportLine) cells() []string {
	cells := []string{strconv.Itoa(r.line), r.receiver, r.envelope.ID, r.state, "", "", "", "", "", "", "", "", "", "", ""}
	if len(r.faults) > 0 {
		var problems []string
		for _, f := range r.faults {
			problems = append(problems, f.String())
		}
		cells[2], cells[3], cells[11] = "", "at fault", strings.Join(problems, "; ")
		return cells
	}
	if result := r.result; result.Outcome != "" {
		cells[3], cells[4], cells[5] = string(tasks.StateDone), string(result.Outcome), strconv.Itoa(result.ErrCode)
		cells[6], cells[7], cells[8], cells[9] = result.ErrMsg, result.Reason, result.MsgID, result.RID
		if !result.FinishedAt.IsZero() {
			cells[10] = result.FinishedAt.In(calendar.Shanghai()).Format(time.DateTime)
		}
		if result.Receipt != "" {
			cells[12], cells[13] = string(result.Receipt), result.ReceiptStatus
			cells[14] = result.ReceiptAt.In(calendar.Shanghai()).Format(time.DateTime)
		}
	}
	return cells
}

// WriteReport writes a CSV with a row for each row of the table: its line and receiver, and what
// became of it. It begins with a BOM, so that Excel reads it as UTF-8, and no cell of it is a
// formula. Times are in Asia/Shanghai. Before Send it lists the rows at fault, and all others as not
// enqueued.
//
// It contains openids: its reader should be the person who has the table.
func (s *Sender) WriteReport(ctx context.Context, w io.Writer, c *Checked) error {
	r, err := s.readRecord(ctx, c.Plan.App, c.Plan.Batch)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\ufeff"); err != nil {
		return err
	}
	out := csv.NewWriter(w)
	out.UseCRLF = true
	if err := out.Write(reportColumns()); err != nil {
		return err
	}
	const atOnce = 500
	lines := make([]reportLine, 0, atOnce)
	flush := func() error {
		if err := s.lookUp(ctx, c.Plan, r, lines); err != nil {
			return err
		}
		for _, line := range lines {
			cells := line.cells()
			for i := range cells {
				cells[i] = safeCell(cells[i])
			}
			if err := out.Write(cells); err != nil {
				return err
			}
		}
		lines = lines[:0]
		return nil
	}
	for row, err := range c.again(ctx) {
		if err != nil {
			return err
		}
		if lines = append(lines, reportLine{checkedRow: row}); len(lines) == atOnce {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

// lookUp reads the results of some rows.
func (s *Sender) lookUp(ctx context.Context, p Plan, r record, lines []reportLine) error {
	const parallel = 16
	next := make(chan *reportLine)
	errs := make([]error, parallel)
	var workers sync.WaitGroup
	for i := range parallel {
		workers.Go(func() {
			for line := range next {
				if errs[i] == nil {
					errs[i] = s.lookUpOne(ctx, p, r, line)
				}
			}
		})
	}
	for i := range lines {
		if r.known && len(lines[i].faults) == 0 {
			next <- &lines[i]
		} else {
			lines[i].state = stateNotEnqueued
		}
	}
	close(next)
	workers.Wait()
	return errors.Join(errs...)
}

func (s *Sender) lookUpOne(ctx context.Context, p Plan, r record, line *reportLine) (err error) {
	line.result, err = s.client.Recorded(ctx, p.App, line.envelope.ID)
	switch {
	case errors.Is(err, tasks.ErrNotFound) && r.sent[line.key]:
		line.state = stateExpired
	case errors.Is(err, tasks.ErrNotFound):
		line.state = stateNotEnqueued
	case err != nil:
		return err
	default:
		line.state = string(line.result.State)
	}
	return nil
}

// safeCell returns a text that a spreadsheet shows as it is: it does not begin as a formula does,
// and it is no number whose last digits a spreadsheet would replace. Such a text gets a ' before it.
func safeCell(text string) string {
	text = printable.Escape(text)
	if text == "" {
		return text
	}
	const exactDigits = 15
	digits := strings.Trim(text, "0123456789") == ""
	switch {
	case digits && len(text) > exactDigits, !digits && strings.ContainsAny(text[:1], "=+-@|%\t\r\n") && !isInteger(text):
		return "'" + text
	case strings.HasPrefix(text, "＝"), strings.HasPrefix(text, "＋"), strings.HasPrefix(text, "－"), strings.HasPrefix(text, "＠"):
		return "'" + text // the wide forms, which some spreadsheets take for the narrow ones
	}
	return text
}

// isInteger reports whether a text is a short number such as the code -1.
func isInteger(text string) bool {
	_, err := strconv.ParseInt(text, 10, 32)
	return err == nil && text[0] != '+'
}
