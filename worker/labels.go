package worker

import (
	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/hold"
	"github.com/wxcourier/wxcourier/tasks"
)

// holdLabels returns the metric label `type` of a hold's scope: a type of the catalog, "*"
// for the whole app, "template" for any template, whose ids are no closed set.
func holdLabels(scope string) string {
	if _, ok := tasks.Lookup(scope); ok || scope == hold.WholeApp {
		return scope
	}
	if hold.IsTemplate(scope) {
		return "template"
	}
	return "other"
}

// reasonLabel returns the metric label `reason` of a hold. Reasons that operators wrote
// become "operator", so that the labels are a closed set.
func reasonLabel(reason string) string {
	if dispatch.IsHoldReason(reason) {
		return reason
	}
	return "operator"
}
