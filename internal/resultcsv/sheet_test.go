package resultcsv_test

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/resultcsv"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestSheetCell: no text becomes a formula or another number in a spreadsheet.
func TestSheetCell(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "",
		"订单已发货":               "订单已发货",
		"order-42-shipped":    "order-42-shipped",
		"=cmd|'/C calc'!A0":   "'=cmd|'/C calc'!A0",
		"+1+1":                "'+1+1",
		"@SUM(A1)":            "'@SUM(A1)",
		"-2+3":                "'-2+3",
		"  =1+1":              "'  =1+1",
		"＝1+1":                "'＝1+1",
		"\t=1+1":              `\t=1+1`,
		"\r\n=1":              `\r\n=1`,
		"0":                   "0",
		"-1":                  "-1",
		"43101":               "43101",
		"-43101":              "-43101",
		"3395159288267931652": "\t3395159288267931652",
		"007":                 "\t007",
		"4E5":                 "\t4E5",
		"4.2E+17":             "\t4.2E+17",
		"2026-11-22":          "\t2026-11-22",
		"2026-11-22 08:00:00": "2026-11-22 08:00:00",
		"errcode=43101":       "errcode=43101",
	} {
		if got := resultcsv.SheetCell(text); got != want {
			t.Errorf("%q is the cell %q, want %q", text, got, want)
		}
	}
}

// TestSheet: Excel opens the sheet as UTF-8, with times of China; an open task has no errcode.
func TestSheet(t *testing.T) {
	var b strings.Builder
	sheet := resultcsv.NewSheet(&b)
	at := time.Date(2026, 11, 21, 16, 0, 1, 0, time.UTC)
	for _, r := range []tasks.Result{
		{ID: "a", Outcome: tasks.OutcomeRejected, ErrCode: 47003, ErrMsg: "=cmd", State: tasks.StateDone, FinishedAt: at, MsgID: "3395159288267931652"},
		{ID: "b", State: tasks.StateWaiting},
	} {
		if err := sheet.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := sheet.Flush(); err != nil {
		t.Fatal(err)
	}
	text, marked := strings.CutPrefix(b.String(), "\uFEFF")
	if !marked {
		t.Errorf("no byte order mark before %q", text)
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	cell := func(row int, name string) string { return rows[row][slices.Index(rows[0], name)] }
	for name, want := range map[string][2]string{
		"id": {"a", "b"}, "finished_at": {"2026-11-22 00:00:01", ""}, "errcode": {"47003", ""}, "errmsg": {"'=cmd", ""},
		"msgid": {"\t3395159288267931652", ""}, "state": {"done", "waiting"}, "outcome": {"rejected", ""},
	} {
		if got := [2]string{cell(1, name), cell(2, name)}; got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}
