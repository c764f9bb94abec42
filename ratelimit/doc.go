// Package ratelimit is the pace: how many calls of a type an app may make, now, over
// all replicas together.
//
// Limits are rows ([Defaults]): a task type, or a group of types that share one
// allowance, with a count per second, minute, day and lifetime. A [Limiter] asks Redis
// for a [Permit] per call. One Lua script looks at the holds and at every window of the
// type at once, so that either all of them count the call or none does.
//
//	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil)
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
// it. It is a record in Redis, enforced by the same script from that record alone.
//
// The folder's README.md works an example by hand and documents the keys.
package ratelimit
