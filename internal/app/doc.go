// Package app puts the parts of wxcourier together from a configuration: the client of Redis, the
// tokens, the limits, the client of WeChat, and replicas; with a Redis or a WeChat inside the
// process where a command wants one.
//
//	parts, err := app.Open(ctx, cfg, log, nil)
//	if err != nil {
//		return err
//	}
//	defer parts.Close()
//	replica, err := parts.Replica(app.WorkerApps(cfg.Apps), parts.Registry)
//
// The packages below it are the engines of commands: check says whether the parts work, filerun
// delivers a file, redrive enqueues ended tasks again, dev runs everything in one process, and
// httpserver serves HTTP and stops in time. None of them parses flags or formats reports;
// cmd/wxcourier does.
package app
