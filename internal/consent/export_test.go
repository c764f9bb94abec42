package consent

import (
	"context"
	"time"
)

// JudgeForTest judges the messages that are due at a time, as Run does.
func JudgeForTest(ctx context.Context, c *Checker, now time.Time) { c.judge(ctx, c.takeDue(now)) }
