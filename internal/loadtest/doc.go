// Package loadtest measures what a deployment costs and gives, on the machine that it
// runs on: processes of this program are the stand-in for WeChat and the workers, and
// the caller is the producer.
//
//	place, err := loadtest.Find(ctx, "", configs.Redis{})
//	…
//	defer place.Close()
//	report, err := loadtest.Run(ctx, loadtest.Options{Self: path, Place: place, Tasks: 20_000, …})
//
// A run is three phases: enqueue fills the queue while nobody drains it, drain starts the
// workers and waits for the last outcome, and end to end offers a steady rate that they
// keep up with, which is where latency means something. Each of the last two has workers
// of its own, so that what a process used in its life belongs to one phase.
//
// All that a run leaves in Redis carries an app id that nobody owns, and is taken away
// at its end, also when the run is broken off.
package loadtest
