package dispatch

import (
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// Consequence is what the worker does about a class of answers, for pages that explain it. rules has
// it.
type Consequence struct {
	Outcome tasks.Outcome // the task ends with it; "": it is retried
	Counts  bool          // the attempt counts as failed
	Holds   Held          // what is held at once; HeldNothing: nothing
	Reason  string        // of the hold
	// InARow is how many such answers in a row hold the lane, for Reason; 0: they do not.
	InARow int
}

// Held is what a hold of a worker stops.
type Held string

// What a hold of a worker stops.
const (
	HeldNothing  Held = ""
	HeldLane     Held = "lane"
	HeldApp      Held = "app"
	HeldTemplate Held = "template"
)

// ConsequenceOf returns what the worker does about a class.
func ConsequenceOf(class wechat.Class) Consequence {
	r := rules[class]
	c := Consequence{Outcome: r.outcome, Counts: r.counts}
	switch r.stops {
	case stopLane:
		c.Holds, c.Reason = HeldLane, r.reason
	case stopApp:
		c.Holds, c.Reason = HeldApp, r.reason
	case stopTemplate:
		c.Holds, c.Reason = HeldTemplate, r.reason
	case stopNothing:
		if r.tripReason != "" {
			c.Reason, c.InARow = r.tripReason, breakerThreshold
		}
	}
	return c
}

// HoldReasons returns the reasons of the holds that verdicts set, in the order of the classes.
func HoldReasons() []string {
	all := []string{tokenUnavailable}
	for _, class := range wechat.Classes() {
		if c := ConsequenceOf(class); c.Reason != "" {
			all = append(all, c.Reason)
		}
	}
	return all
}
