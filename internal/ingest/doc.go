// Package ingest enqueues the tasks of a stream and waits for their outcomes.
//
//	counts, err := ingest.Enqueue(ctx, source, ingest.Options{Client: client, …})
//
// enqueues and returns. A [Runner] enqueues and then waits for the outcomes:
//
//	runner := ingest.NewRunner(ingest.RunnerOptions{Options: …, Window: 1000, Result: print})
//	err := runner.Run(ctx, source) // until each task has an outcome, or ctx ends
//
// A Runner has at most Window tasks without an outcome at a time, so that a stream of any
// length needs little memory in the process and in Redis.
package ingest
