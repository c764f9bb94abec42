package main

import (
	"fmt"
	"runtime"

	"github.com/wxcourier/wxcourier/internal/buildinfo"
)

type versionCommand struct{}

// Run prints the version on one line.
func (versionCommand) Run(p *program) error {
	_, err := fmt.Fprintf(p.stdout, "wxcourier %s %s %s/%s\n", buildinfo.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
