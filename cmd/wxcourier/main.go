// Command wxcourier delivers WeChat messages and other WeChat API calls without losing or
// doubling them: it drains tasks from Redis through WeChat's server API, within WeChat's
// limits, and records one outcome for each task.
//
//	wxcourier run --sandbox examples/tasks.jsonl   # enqueue and deliver a file, with nothing installed
//	wxcourier worker -c wxcourier.yaml             # one of any number of replicas
//
// Each subcommand has a file in this folder, with its flags, its help and its messages; its engine is
// in internal/app. program.go declares the subcommands and has what they share; input.go and
// output.go read their inputs and write their formats.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/wxcourier/wxcourier/internal/app"
)

func main() {
	app.RedirectLibraryLogs(os.Stderr)
	m := Main{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Environ(), Command: startedBy()}
	os.Exit(m.Run(untilSignal(), os.Args[1:]))
}

// startedBy returns the command that started this process.
func startedBy() string {
	executable, err := os.Executable()
	info, ok := debug.ReadBuildInfo()
	if err != nil || !ok {
		return programName
	}
	return invocation(os.Args[0], executable, info.Path, func(folder string) bool {
		found, err := os.Stat(folder)
		return err == nil && found.IsDir()
	})
}

// repeatedSignal is the time after the first signal in which further signals are ignored: a
// parent process may forward the signal that the terminal sent to both.
const repeatedSignal = 500 * time.Millisecond

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. A second one ends the
// process.
func untilSignal() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		stop()
		for first := time.Now(); time.Since(first) < repeatedSignal; {
			<-signals
		}
		_, _ = fmt.Fprintln(os.Stderr, "\nwxcourier: second signal: quitting at once")
		os.Exit(statusFailed)
	}()
	return ctx
}
