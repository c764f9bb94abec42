package dispatch

import (
	"slices"
	"testing"

	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// TestConsequences: pages explain what the worker does.
func TestConsequences(t *testing.T) {
	for class, want := range map[wechat.Class]Consequence{
		wechat.ClassOK:       {Outcome: tasks.OutcomeAccepted},
		wechat.ClassTemplate: {Outcome: tasks.OutcomeRejected, Holds: HeldTemplate, Reason: ReasonTemplateHeld},
		wechat.ClassBusy:     {Counts: true},
		wechat.ClassUnlisted: {Counts: true, Reason: ReasonUnlistedCode, InARow: breakerThreshold},
		wechat.ClassQuotaDay: {Holds: HeldLane, Reason: "quota_day"},
		wechat.ClassConfig:   {Holds: HeldApp, Reason: appConfig},

		wechat.ClassUnauthorized: {Holds: HeldApp, Reason: "unauthorized"},
	} {
		if got := ConsequenceOf(class); got != want {
			t.Errorf("%v: %+v, want %+v", class, got, want)
		}
	}
}

// TestHoldReasons: each reason is one that verdicts set, and occurs once.
func TestHoldReasons(t *testing.T) {
	all := HoldReasons()
	for _, reason := range all {
		if !IsHoldReason(reason) {
			t.Errorf("%s is no reason of a hold", reason)
		}
	}
	for _, r := range rules {
		if r.stops != stopNothing && !slices.Contains(all, r.reason) || r.tripReason != "" && !slices.Contains(all, r.tripReason) {
			t.Errorf("a reason of %+v is missing", r)
		}
	}
	slices.Sort(all)
	if n := len(all); len(slices.Compact(all)) != n {
		t.Errorf("a reason occurs twice in %v", all)
	}
}
