package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/wxcourier/wxcourier/internal/app/reload"
)

// runInBackground runs do until stop is called or p.ctx ends. stop waits for it.
func (p *program) runInBackground(do func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(p.ctx)
	var running sync.WaitGroup
	running.Go(func() { do(ctx) })
	return func() {
		cancel()
		running.Wait()
	}
}

// followConfiguration reads the configuration again whenever its files change, and on SIGHUP, until
// stop is called or p.ctx ends. It sets the Path, the Environ and the Signals of cfg. Windows has no
// SIGHUP. Other commands leave SIGHUP as it is: it ends them.
func (p *program) followConfiguration(cfg reload.Config) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	cfg.Path, cfg.Environ, cfg.Signals = p.configFile(), p.env, signals
	end := p.runInBackground(reload.New(cfg).Run)
	return func() {
		signal.Stop(signals)
		end()
	}
}
