package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/ratelimit"
)

// holdText tells of a hold in one line.
func holdText(h ratelimit.Hold) string {
	scope := h.Scope
	if scope == ratelimit.WholeApp {
		scope = "all types"
	}
	text := fmt.Sprintf("%s %s: %s", h.App, scope, strings.ReplaceAll(h.Reason, "_", " "))
	if h.Code != 0 {
		text += fmt.Sprintf(" (errcode %d)", h.Code)
	}
	if h.Until.IsZero() {
		return text + ", until it is lifted"
	}
	return text + ", until " + h.Until.Local().Format(time.DateTime)
}
