// Package ratelimit is the pace: how many calls of a type an app may make, now, over
// all replicas together.
//
// Limits are rows ([Defaults]): a task type, or a group of types that share one
// allowance, with a count per second, minute, day and lifetime. A [Limiter] leases blocks
// of [Permit]s from Redis, its share of the coming moments, and hands each out at its own
// instant. One Lua script looks at the holds and at every window of the type at once, so
// that either all of them count a block or none does. What is not used goes back.
//
//	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil)
//	defer limiter.Close(context.Background()) // gives back what it leased
//	permit, err := limiter.Acquire(ctx, "wx0123456789abcdef", "scheme:generate", nil)
//	if err != nil {
//		return err // ctx ended, or Redis does not answer
//	}
//	if !permit.Fresh(time.Now()) {
//		return limiter.Release(ctx, permit) // too late for its instant: not used
//	}
//	// make the call
//
// Seconds and minutes hold in any sliding window, since nobody knows where WeChat's
// begin; days are calendar days of China. The clock is Redis' own, never a replica's.
//
// A [Hold] stops a type, a template or a whole app until a time or until somebody lifts
// it. It is a record in Redis, enforced by the same script from that record alone; call
// [Limiter.Recall] when its message comes.
//
// [Limiter.Feedback] slows all replicas down after a refusal, and [Limiter.Learn] keeps
// what WeChat tells of its limits.
//
// The folder's README.md works an example by hand and documents the keys.
package ratelimit
