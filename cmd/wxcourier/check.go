package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/configs"
	"github.com/wxcourier/wxcourier/internal/app/check"
	"github.com/wxcourier/wxcourier/internal/describe"
	"github.com/wxcourier/wxcourier/internal/printable"
)

type checkCommand struct {
	Repair bool `help:"End tasks that asynq no longer has as canceled, and delete archived copies older than results.retention."`

	Force bool `help:"Also ask for the token of apps with token.mode classic. That ends the token in use five minutes later; the new one is stored for the workers."`

	confirm time.Duration // see check.Options; 0: its default
}

func (checkCommand) Help() string {
	return `Checks the configuration, Redis and the credentials of each app, and prints one line per check with advice on failures. For each app it asks WeChat or the app's token service for a token, whatever token Redis has. Stable tokens in use stay valid; a new classic token would end the one in use, so that these apps are asked only with --force. An app that is held as a whole is a failure. The exit status is 1 when a check failed; warnings do not count.

It also searches for tasks that were deleted in the asynq web UI: no worker sends them, and their producers and batches keep waiting. Without --repair nothing is changed. Tasks enqueued less than 15 seconds ago are not examined.

Examples:
    wxcourier check
    wxcourier check --repair
    wxcourier check --force
    wxcourier check -c wxcourier.yaml`
}

// Run checks everything that a worker needs.
func (c *checkCommand) Run(p *program) error {
	failed := 0
	report := func(f check.Finding) {
		if f.Level == check.Failure {
			failed++
		}
		p.printFinding(f)
	}
	cfg, err := p.configuration()
	if err != nil {
		report(check.Finding{Level: check.Failure, Subject: "configuration", Text: err.Error()})
	} else {
		report(check.Finding{Subject: "configuration", Text: p.configSource() + ", " + describe.Count(len(cfg.Apps), "app")})
		err := check.Run(p.ctx, check.Options{
			Config: cfg, Log: p.logger(), Repair: c.Repair, Force: c.Force, Confirm: c.confirm, OnFinding: report,
			OnConfirm: func(missing int, wait time.Duration) {
				p.notef("%s not in asynq; checking again in %v before ending them", describe.Count(missing, "task"), wait)
			},
		})
		if err != nil {
			return err
		}
	}
	if failed > 0 {
		return errors.New(describe.Count(failed, "check") + " failed")
	}
	return nil
}

// configSource returns where the configuration comes from.
func (p *program) configSource() string {
	if path := p.configFile(); path != "" {
		return path
	}
	return "defaults and the environment; no " + configs.DefaultFile + " in this folder"
}

// printFinding prints one line; the further lines of a text are indented.
func (p *program) printFinding(f check.Finding) {
	lines := strings.Split(f.Text, "\n")
	for i := range lines {
		lines[i] = printable.Escape(lines[i])
	}
	mark := map[check.Level]string{check.OK: "ok  ", check.Warning: "warn", check.Failure: "FAIL"}[f.Level]
	_, _ = fmt.Fprintf(p.stdout, "%s  %s: %s\n", mark, f.Subject, strings.Join(lines, "\n        "))
}
