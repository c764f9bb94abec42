// Package ingest hands the tasks of a stream over to Redis, and follows each of them to
// its outcome.
//
//	counts, err := ingest.Enqueue(ctx, source, ingest.Options{Client: client, …})
//
// enqueues and returns; a [Job] does so too, and then waits for the outcomes:
//
//	runner := ingest.NewRunner(ingest.RunnerOptions{Options: …, Window: 1000, Result: print})
//	err := runner.Run(ctx, source) // until each task has an outcome, or ctx ends
//
// A Job never has more than its window of tasks without an outcome, so that a stream
// of any length needs little memory here and in Redis.
package ingest
