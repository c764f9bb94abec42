// Package loadtest measures the throughput, latency and cost of a deployment on this machine. The
// workers and the stand-in for WeChat are child processes of the same program; the caller is the
// producer.
//
//	target, err := loadtest.FindRedis(ctx, "", configs.Redis{})
//	…
//	defer target.Close()
//	report, err := loadtest.Run(ctx, loadtest.Options{Self: path, Target: target, Tasks: 20_000, …})
//
// A run has three phases. Enqueue fills the queue while no worker runs. Drain starts the workers and
// waits for the last outcome. End to end offers tasks at a steady rate that the workers sustain, and
// measures latency. Each of the last two phases starts its own workers, so that the resource usage
// of a process belongs to one phase.
//
// All keys of a run contain a random app id. They are deleted at its end, also when it is
// interrupted.
package loadtest
