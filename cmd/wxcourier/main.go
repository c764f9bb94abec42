// Command wxcourier delivers WeChat work that must not be lost, doubled or throttled
// away: it drains tasks from Redis through WeChat's server API, at the pace that WeChat
// allows, and records one outcome for each.
//
//	wxcourier run --sandbox examples/tasks.jsonl   # the whole job, with nothing installed
//	wxcourier worker -c wxcourier.yaml             # one of any number of replicas
//
// Each subcommand is a file of this folder; wiring.go joins the parts, program.go is
// what they all run in.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	// Redis' errors come back from each call; the library's own log would say them again.
	redis.SetLogger(discardLogger{})
	log.SetOutput(stdLogWriter{os.Stderr})
	m := Main{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Environ()}
	os.Exit(m.Run(untilSignal(), os.Args[1:]))
}

type discardLogger struct{}

func (discardLogger) Printf(context.Context, string, ...any) {}

// repeatedSignal is within what a second signal is the first one again: whoever runs the
// program by another one may pass on what the terminal has sent to both.
const repeatedSignal = 500 * time.Millisecond

// untilSignal ends with the first SIGINT or SIGTERM. A second one ends the process.
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
