package taskstate_test

import (
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/asynqwire"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/taskstate"
)

const (
	app = "wx0123456789abcdef"
	typ = "send:custom"
)

// TestWaits: what a task waits for, and which of several waits ends last.
func TestWaits(t *testing.T) {
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	soon, later := now.Add(time.Minute), now.Add(time.Hour)
	copyIn := func(state string, due time.Time, lastErr string) *asynqwire.Copy {
		return &asynqwire.Copy{State: state, Due: due, LastErr: lastErr}
	}
	pending := copyIn(asynqwire.Pending, time.Time{}, "")
	retry := copyIn(asynqwire.Retry, soon, "system busy")
	paused := func(by string) *asynqwire.Copy {
		return &asynqwire.Copy{State: asynqwire.Pending, Paused: true, PauseBy: by}
	}
	laneHold := hold.Hold{App: app, Scope: typ, Reason: "quota_day", Until: later}
	appHold := hold.Hold{App: app, Scope: hold.WholeApp, Reason: "stopped"}
	for name, tt := range map[string]struct {
		record ledger.Record
		copied *asynqwire.Copy
		holds  []hold.Hold
		want   taskstate.Wait // that ends last
		n      int            // of waits; 0 means 1
	}{
		"scheduled":                {copied: copyIn(asynqwire.Scheduled, later, ""), want: taskstate.Wait{For: taskstate.ForProcessAt, Until: later}},
		"due":                      {copied: pending, want: taskstate.Wait{For: taskstate.ForTurn}},
		"taken by a replica":       {copied: copyIn(asynqwire.Active, time.Time{}, ""), want: taskstate.Wait{For: taskstate.ForPermit}},
		"being sent":               {record: ledger.Record{State: "sending"}, copied: copyIn(asynqwire.Active, time.Time{}, ""), holds: []hold.Hold{laneHold}, want: taskstate.Wait{For: taskstate.ForAnswer}},
		"waiting for the callback": {record: ledger.Record{State: "waiting"}, copied: copyIn(asynqwire.Retry, soon, taskstate.AwaitsCallback), holds: []hold.Hold{laneHold}, want: taskstate.Wait{For: taskstate.ForCallback, Until: soon}},
		"failed once":              {record: ledger.Record{State: "retrying"}, copied: retry, want: taskstate.Wait{For: taskstate.ForRetry, Until: soon}},
		"outside of the hours":     {copied: copyIn(asynqwire.Retry, later, "outside of the app's hours"), want: taskstate.Wait{For: taskstate.ForHours, Until: later}},
		"hours before a write":     {copied: copyIn(asynqwire.Retry, later, "not sent: outside of the app's hours"), want: taskstate.Wait{For: taskstate.ForHours, Until: later}},
		"a busy receiver":          {copied: copyIn(asynqwire.Retry, soon, "worker: the receiver is busy with other tasks"), want: taskstate.Wait{For: taskstate.ForReceiver, Until: soon}},
		"WeChat's limit for one receiver": {
			record: ledger.Record{State: "waiting", Last: ledger.Answer{Code: 43117, Class: "per_user_long"}}, copied: copyIn(asynqwire.Retry, later, "errcode 43117"),
			want: taskstate.Wait{For: taskstate.ForReceiver, Until: later},
		},
		"held":                        {copied: pending, holds: []hold.Hold{laneHold}, want: taskstate.Wait{For: taskstate.ForHold, Reason: "quota_day", Until: later}},
		"held longer than its retry":  {copied: retry, holds: []hold.Hold{laneHold}, want: taskstate.Wait{For: taskstate.ForHold, Reason: "quota_day", Until: later}, n: 2},
		"held until an operator acts": {copied: retry, holds: []hold.Hold{appHold, laneHold}, want: taskstate.Wait{For: taskstate.ForHold, Reason: "stopped", Blocked: true}, n: 3},
		"held template":               {copied: pending, holds: []hold.Hold{{App: app, Scope: hold.TemplateScope("T"), Until: later}}, want: taskstate.Wait{For: taskstate.ForTurn}},
		"paused by hand":              {copied: paused("1763715600"), want: taskstate.Wait{For: taskstate.ForPause, Blocked: true}},
		"paused by a hold":            {copied: paused("wxcourier:send:custom"), holds: []hold.Hold{laneHold}, want: taskstate.Wait{For: taskstate.ForHold, Reason: "quota_day", Until: later}},
		"archived":                    {copied: copyIn(asynqwire.Archived, time.Time{}, ""), holds: []hold.Hold{laneHold}, want: taskstate.Wait{For: taskstate.ForArchive, Blocked: true}},
		"deleted":                     {record: ledger.Record{Enqueued: now.Add(-time.Minute)}, want: taskstate.Wait{For: taskstate.ForSweep, Blocked: true}},
		"about to be enqueued":        {record: ledger.Record{Enqueued: now.Add(-time.Second)}, want: taskstate.Wait{For: taskstate.ForTurn}},
		"deleted after an attempt":    {record: ledger.Record{Enqueued: now.Add(-time.Second), Attempts: 1}, want: taskstate.Wait{For: taskstate.ForSweep, Blocked: true}},
	} {
		t.Run(name, func(t *testing.T) {
			waits := taskstate.Task{App: app, Lane: typ, Record: tt.record, Copy: tt.copied, Holds: tt.holds}.Waits(now)
			if got := taskstate.Last(waits); got != tt.want || len(waits) != max(tt.n, 1) {
				t.Errorf("%+v of %+v, want %+v of %d", got, waits, tt.want, max(tt.n, 1))
			}
		})
	}
	ended := taskstate.Task{App: app, Record: ledger.Record{Outcome: "accepted"}}
	if waits := ended.Waits(now); waits != nil || taskstate.Last(waits) != (taskstate.Wait{}) {
		t.Errorf("an ended task waits for %+v", waits)
	}
}
