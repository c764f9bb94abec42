package console

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/series"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	// receiptsDue is how long after a message its receipt is expected: younger messages do not count.
	// WeChat mostly pushes it within seconds.
	receiptsDue = 5 * time.Minute
	// receiptsSpan is the time that the overview shows.
	receiptsSpan = 24 * time.Hour
	// Few messages tell nothing about the callback; of more, this share without a receipt does.
	receiptsEnough, receiptsMissing = 20, 0.2

	maxReceiptRows = 20
)

// receiptReading is what became of the messages of the last day.
type receiptReading struct {
	points []series.ReceiptPoint // by hour; the last one may be a part of one
	until  time.Time             // the messages of the points were accepted before then
}

// readReceipts reads what became of the messages of the apps with receipts: of whole hours, and by minute
// of the hour of which a part is too young.
func (c *Console) readReceipts(ctx context.Context, now time.Time) (read receiptReading, err error) {
	var apps []string
	for _, app := range c.Apps() {
		if app.Receipts {
			apps = append(apps, app.ID)
		}
	}
	if len(apps) == 0 {
		return read, nil
	}
	read.until = now.Add(-receiptsDue).UTC().Truncate(time.Minute)
	hour, types := read.until.Truncate(time.Hour), tasks.TypesWithReceipts()
	read.points, err = series.ReadReceipts(ctx, c.Redis, series.Query{
		Apps: apps, From: read.until.Add(-receiptsSpan).Truncate(time.Hour).Add(time.Hour), To: hour, Step: series.Hour,
	}, types)
	if err != nil {
		return read, err
	}
	rest, err := series.ReadReceipts(ctx, c.Redis, series.Query{Apps: apps, From: hour, To: read.until, Step: series.Minute}, types)
	for _, p := range rest {
		p.At = hour
		read.points = append(read.points, p)
	}
	return read, err
}

// receiptCounts are messages that WeChat accepted, by what became of them.
type receiptCounts struct {
	Accepted, Delivered, Blocked, Failed, Without int64
}

func (n *receiptCounts) add(p series.ReceiptPoint) {
	n.Accepted += p.Accepted
	n.Delivered += p.Delivered
	n.Blocked += p.Blocked
	n.Failed += p.Failed
	n.Without += p.Without
}

// Share returns the share of the messages that have no receipt.
func (n receiptCounts) Share() float64 { return float64(n.Without) / float64(max(1, n.Accepted)) }

// Missing reports whether so many messages have no receipt that the callback may not work.
func (n receiptCounts) Missing() bool {
	return n.Accepted >= receiptsEnough && n.Share() >= receiptsMissing
}

// receiptRow is what became of the messages of an app and type.
type receiptRow struct {
	App, Type string
	receiptCounts
}

// receiptHour is what became of the messages of an hour.
type receiptHour struct {
	At time.Time
	receiptCounts
}

// receiptsView is the overview's part about receipts.
type receiptsView struct {
	On      bool // an app has a callback
	Rows    []receiptRow
	More    int           // rows that are not shown
	Hours   []receiptHour // the newest first
	Until   time.Time
	Missing bool // of one of the rows
}

// newReceipts arranges what became of the messages of some apps: those first of which most have no
// receipt.
func newReceipts(read receiptReading, apps []App, wanted func(app string) bool) receiptsView {
	v := receiptsView{Until: read.until}
	for _, app := range apps {
		v.On = v.On || app.Receipts && wanted(app.ID)
	}
	rows, hours := make(map[[2]string]*receiptRow), make(map[time.Time]*receiptHour)
	for _, p := range read.points {
		if !wanted(p.App) {
			continue
		}
		row, hour := rows[[2]string{p.App, p.Type}], hours[p.At]
		if row == nil {
			row = &receiptRow{App: p.App, Type: p.Type}
			rows[[2]string{p.App, p.Type}] = row
		}
		if hour == nil {
			hour = &receiptHour{At: p.At}
			hours[p.At] = hour
		}
		row.add(p)
		hour.add(p)
	}
	for _, row := range rows {
		v.Rows, v.Missing = append(v.Rows, *row), v.Missing || row.Missing()
	}
	for _, hour := range hours {
		v.Hours = append(v.Hours, *hour)
	}
	slices.SortFunc(v.Rows, func(a, b receiptRow) int {
		return cmp.Or(-cmp.Compare(a.Without, b.Without), cmp.Compare(a.App, b.App), cmp.Compare(a.Type, b.Type))
	})
	slices.SortFunc(v.Hours, func(a, b receiptHour) int { return b.At.Compare(a.At) })
	if v.More = len(v.Rows) - maxReceiptRows; v.More > 0 {
		v.Rows = v.Rows[:maxReceiptRows]
	}
	return v
}
