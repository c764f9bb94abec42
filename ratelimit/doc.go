// Package ratelimit limits how many calls of a type an app makes, over all replicas together.
//
// Limits are rows ([Defaults]): a task type, or a group of types that share one limit, with a
// count per second, minute, day and lifetime. A [Limiter] leases blocks of [Permit]s from
// Redis and hands out each permit at its own instant. One Lua script checks all windows of the
// type, and counts the block either in all of them or in none. Unused permits are given back.
//
//	limiter := ratelimit.NewLimiter(rdb, ratelimit.DefaultConfig(), nil)
//	defer limiter.Close(context.Background()) // gives back the leased permits
//	permit, err := limiter.Acquire(ctx, "wx0123456789abcdef", "scheme:generate", nil)
//	if err != nil {
//		return err // ctx has ended, or Redis failed
//	}
//	if !permit.Fresh(time.Now()) {
//		return limiter.Release(ctx, permit) // too late to use it
//	}
//	// make the call
//
// Limits per second and minute hold in any sliding window, since it is not known where WeChat's
// windows begin; days are calendar days of China. The clock is that of Redis, never a
// replica's.
//
// The same script grants nothing while a hold on the type or on its app is in force (package
// internal/hold). Call [Limiter.Revoke] when one was set or lifted.
//
// [Limiter.Feedback] slows all replicas down after a refusal, and [Limiter.Learn] stores the
// limits that WeChat reports.
//
// README.md works an example by hand and documents the keys.
package ratelimit
