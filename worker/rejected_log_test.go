package worker_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestRejectedTasksAreSummedUp: of 200 messages that WeChat rejects for the same cause, the first
// is logged in full, and the others in a sum, at the latest when the replica stops.
func TestRejectedTasksAreSummedUp(t *testing.T) {
	onEach(t, sandbox.Options{}, func(t *testing.T, r *rig) {
		const n = 200
		if _, err := r.wx.AddFault(sandbox.Fault{ErrCode: 47003, Template: "T1"}); err != nil {
			t.Fatal(err)
		}
		replica := r.replica(nil)
		for i := range n {
			r.submit(message(fmt.Sprintf("m%d", i), fmt.Sprintf("person-%d", i)))
		}
		for i := range n {
			if got := r.outcome(fmt.Sprintf("m%d", i)); got.Outcome != tasks.OutcomeRejected {
				t.Errorf("%+v", got)
			}
		}
		if err := replica.stop(); err != nil {
			t.Fatal(err)
		}
		text := r.log.String()
		full := strings.Count(text, "level=INFO msg=rejected ")
		more := 0
		for _, found := range regexp.MustCompile(`msg="more tasks rejected" .*tasks=(\d+) template=T1 errcode=47003`).FindAllStringSubmatch(text, -1) {
			count, _ := strconv.Atoi(found[1])
			more += count
		}
		if full < 1 || full > 2 || full+more != n { // two where the test takes over the end of a minute
			t.Errorf("%d lines in full and %d more, of %d rejected tasks", full, more, n)
		}
		noLeak(t, r)
	})
}
