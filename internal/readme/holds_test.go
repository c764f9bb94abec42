package readme

import (
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/inspect"
)

// TestHoldReasons: the pages for operators explain each reason for which something is held.
func TestHoldReasons(t *testing.T) {
	reasons := append(dispatch.HoldReasons(), inspect.ReasonQuotaDay, inspect.ReasonQuotaTotal, inspect.ReasonQuotaReserved)
	for _, l := range languages() {
		text := read(t, l.doc("operations.md"))
		for _, reason := range reasons {
			if !strings.Contains(text, "\n| `"+reason+"`") {
				t.Errorf("%s: no row for the reason %s", l.doc("operations.md"), reason)
			}
		}
	}
}
