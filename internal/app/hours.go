package app

import (
	"fmt"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
	"github.com/wxcourier/wxcourier/worker"
)

// HoursStatus is one entry of an app's hours, and whether they are open.
type HoursStatus struct {
	App     string    `json:"app"`
	Types   string    `json:"types"` // a type, a kind ("send:*") or "*"
	Hours   string    `json:"hours"`
	Open    bool      `json:"open"`
	OpensAt time.Time `json:"opens_at,omitzero"` // when not open
}

// HoursOf returns the entries of an app's hours at a time, sorted by types.
func HoursOf(app string, hours worker.Hours, now time.Time) []HoursStatus {
	var all []HoursStatus
	for _, key := range hours.Keys() {
		h := HoursStatus{App: app, Types: key, Hours: hours[key]}
		var at time.Time
		if at, h.Open = hours.NextOpen(key, now); !h.Open {
			h.OpensAt = at
		}
		all = append(all, h)
	}
	return all
}

// String describes an entry in one line.
func (h HoursStatus) String() string {
	state := "open"
	if !h.Open {
		state = "held back until " + h.OpensAt.In(calendar.Shanghai()).Format(time.DateTime)
	}
	return fmt.Sprintf("%s %s: %s, %s (Asia/Shanghai)", h.App, h.Types, h.Hours, state)
}
