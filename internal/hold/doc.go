// Package hold records what stands still, why, and until when. A [Hold] stops a task type, a
// message template or a whole app, on all replicas, until a time or until it is lifted.
//
//	holds := hold.NewStore(rdb)
//	set, err := holds.Set(ctx, hold.Hold{App: "wx0123456789abcdef", Scope: hold.WholeApp, Reason: "legal", By: "somebody@somewhere"})
//	…
//	lifted, err := holds.Lift(ctx, "wx0123456789abcdef", hold.WholeApp)
//
// [Store] sets, lifts and reads the records in Redis, by Redis' clock. [Watcher] is what a
// replica knows of the holds of its apps, [Templates] a cache of the templates that are held, and
// [Pauses] shows holds in the asynq web UI.
//
// The package decides neither what is held nor what that stops: package worker sets a hold after
// a refusal, package ratelimit grants no permits while one is in force.
package hold
