package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/wxcourier/wxcourier/internal/heartbeat"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/internal/summary"
)

// writeReplicas prints the running replicas, and those that were lost in the last minutes.
func writeReplicas(w io.Writer, replicas []heartbeat.Replica) {
	if len(replicas) == 0 {
		_, _ = fmt.Fprintln(w, "\nReplicas: none is running. Tasks wait until a worker starts.")
		return
	}
	_, _ = fmt.Fprintln(w, "\nReplicas:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer func() { _ = table.Flush() }()
	_, _ = fmt.Fprintln(table, "REPLICA\tHOST\tPID\tVERSION\tSTARTED\tAPPS\tLANES\tACTIVE\tSTATE")
	for _, r := range replicas {
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			printable.Escape(r.ID), printable.Escape(r.Host), strconv.Itoa(r.PID), printable.Escape(r.Version), r.Started.Local().Format(time.DateTime),
			summary.Number(r.Apps), summary.Number(r.Lanes), summary.Number(r.Active), replicaState(r),
		}, "\t"))
	}
}

// replicaState returns the cell STATE.
func replicaState(r heartbeat.Replica) string {
	switch {
	case r.Lost:
		return "lost: not seen since " + r.Seen.Local().Format(time.DateTime)
	case r.Stopping:
		return "stopping"
	case r.Lanes == 0:
		return "idle"
	}
	return "working"
}
