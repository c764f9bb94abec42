package ratelimit

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The scripts. Each tells its keys, arguments and reply at its head.
var (
	//go:embed take.lua
	takeSource string
	//go:embed giveback.lua
	giveBackSource string
	//go:embed usage.lua
	usageSource string
	//go:embed hold.lua
	holdSource string
	//go:embed holds.lua
	holdsSource string

	takeScript     = redis.NewScript(takeSource)
	giveBackScript = redis.NewScript(giveBackSource)
	usageScript    = redis.NewScript(usageSource)
	holdScript     = redis.NewScript(holdSource)
	holdsScript    = redis.NewScript(holdsSource)
)

// stateKey holds the counts of a row (a hash), logKey its minute's log (a list). Both
// are private, and on the app's hash tag.
func stateKey(app, row string) string { return "wxcourier:{" + app + "}:pace:" + row }
func logKey(app, row string) string   { return stateKey(app, row) + ":log" }

func (p plan) keys(before ...string) []string {
	keys := before
	for _, r := range p.rows {
		keys = append(keys, stateKey(p.app, r.name), logKey(p.app, r.name))
	}
	return keys
}

// grant is the reply to take: instants, a wait or a hold.
type grant struct {
	plan     plan
	now      int64   // Redis' clock, µs since 1970
	instants []int64 // the same clock; never before now
	wait     time.Duration
	window   Window
	hold     *Hold
}

// take asks for up to n permits in one round trip.
func (l *Limiter) take(ctx context.Context, p plan, n int) (grant, error) {
	args := []any{
		l.now(), n, ahead.Microseconds(),
		bucket.Microseconds(), keep.Microseconds(), edge.Microseconds(),
	}
	for _, r := range p.rows {
		args = append(args, r.spacing.Microseconds(), r.minute, r.day, r.total)
	}
	scopes := []string{WholeApp, p.typ}
	keys := p.keys(holdKey(p.app, scopes[0]), holdKey(p.app, scopes[1]))
	reply, err := takeScript.Run(ctx, l.rdb, keys, args...).Slice()
	if err != nil {
		return grant{}, err
	}
	if len(reply) > 2 && reply[0] == int64(2) {
		return heldGrant(p, scopes, reply)
	}
	nums, err := integers(reply)
	if err != nil {
		return grant{}, err
	}
	g := grant{plan: p}
	switch {
	case len(nums) > 2 && nums[0] == 1:
		g.now, g.instants = nums[1], nums[2:]
	case len(nums) == 5 && nums[0] == 0 && nums[3] >= 1 && int(nums[3]) <= len(p.rows):
		g.now, g.wait = nums[1], time.Duration(nums[2])*time.Microsecond
		g.window = p.rows[nums[3]-1].window(nums[4])
	default:
		return grant{}, fmt.Errorf("take script: unexpected reply of %d values", len(reply))
	}
	return g, nil
}

// heldGrant decodes the reply {2, now, index of the scope, field, value…}.
func heldGrant(p plan, scopes []string, reply []any) (grant, error) {
	nums, err := integers(reply[1:3])
	if err != nil {
		return grant{}, err
	}
	scope := scopes[0]
	if nums[1] == 2 {
		scope = scopes[1]
	}
	h, err := decodeHold(p.app, scope, reply[3:])
	if err != nil {
		return grant{}, err
	}
	g := grant{plan: p, now: nums[0], hold: &h, wait: askAgain}
	if !h.Until.IsZero() {
		g.wait = h.Until.Sub(time.UnixMicro(g.now))
	}
	return g, nil
}

// window names the window that the script numbers 1 (second) to 4 (lifetime).
func (r pacedRow) window(kind int64) Window {
	switch kind {
	case 1:
		return Window{r.name, PerSecond, int64(r.limit.PerSecond)}
	case 2:
		return Window{r.name, PerMinute, int64(r.limit.PerMinute)}
	case 3:
		return Window{r.name, PerDay, r.limit.PerDay}
	default:
		return Window{r.name, Total, r.limit.Total}
	}
}

// giveBack undoes a take; the minute's count only when asked to.
func (l *Limiter) giveBack(ctx context.Context, p *Permit, withMinute bool) error {
	args := []any{
		l.now(), p.instant, p.granted,
		bucket.Microseconds(), keep.Microseconds(), edge.Microseconds(),
	}
	for _, r := range p.plan.rows {
		logged := r.minute
		if !withMinute {
			logged = 0
		}
		args = append(args, r.spacing.Microseconds(), logged, r.day, r.total)
	}
	return l.runOnce(ctx, p.plan.keys(), args)
}

// once is a command that go-redis does not send again when its reply was lost.
type once struct{ *redis.Cmd }

// NoRetry tells go-redis that a second execution would do harm.
func (once) NoRetry() bool { return true }

// runOnce runs the script that gives back, at most once. One that Redis did not know has
// not run, so it may be sent in full.
func (l *Limiter) runOnce(ctx context.Context, keys []string, args []any) error {
	send := func(name, script string) error {
		line := make([]any, 0, 3+len(keys)+len(args))
		line = append(line, name, script, len(keys))
		for _, k := range keys {
			line = append(line, k)
		}
		return l.rdb.Process(ctx, once{redis.NewCmd(ctx, append(line, args...)...)})
	}
	err := send("evalsha", giveBackScript.Hash())
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = send("eval", giveBackSource)
	}
	return err
}

// integers reads a reply of whole numbers.
func integers(reply []any) ([]int64, error) {
	nums := make([]int64, len(reply))
	for i, v := range reply {
		n, ok := v.(int64)
		if !ok {
			return nil, fmt.Errorf("script reply: %T where a number was expected", v)
		}
		nums[i] = n
	}
	return nums, nil
}

// fields reads a reply of alternating names and values.
func fields(reply []any) (map[string]string, error) {
	m := make(map[string]string, len(reply)/2)
	for i := 0; i+1 < len(reply); i += 2 {
		name, ok1 := reply[i].(string)
		value, ok2 := reply[i+1].(string)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("script reply: %T, %T where a field was expected", reply[i], reply[i+1])
		}
		m[name] = value
	}
	return m, nil
}

// logEntry reads "bucket:count" of a minute's log.
func logEntry(s string) (b, n int64, err error) {
	left, right, _ := strings.Cut(s, ":")
	if b, err = strconv.ParseInt(left, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("minute's log: %w", err)
	}
	if n, err = strconv.ParseInt(right, 10, 64); err != nil {
		return 0, 0, fmt.Errorf("minute's log: %w", err)
	}
	return b, n, nil
}
