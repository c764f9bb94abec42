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

// writeReplicas prints the running workers, and those that were lost in the last minutes.
func writeReplicas(w io.Writer, replicas []heartbeat.Replica) {
	if len(replicas) == 0 {
		_, _ = fmt.Fprintln(w, "\nReplicas: none is running. Tasks wait until a worker starts.")
		return
	}
	_, _ = fmt.Fprintln(w, "\nReplicas:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "REPLICA\tHOST\tPID\tVERSION\tSTARTED\tCONFIG\tREAD\tAPPS\tLANES\tACTIVE\tSTATE")
	for _, r := range replicas {
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			printable.Escape(r.ID), printable.Escape(r.Host), strconv.Itoa(r.PID), printable.Escape(r.Version), r.Started.Local().Format(time.DateTime),
			printable.Escape(configOf(r).Hash), readAt(r), summary.Number(r.Apps), summary.Number(r.Lanes), summary.Number(r.Active), replicaState(r),
		}, "\t"))
	}
	_ = table.Flush()
	writeConfigurations(w, replicas)
}

// writeGateways prints the running gateways, and those that were lost in the last minutes.
func writeGateways(w io.Writer, gateways []heartbeat.Replica) {
	if len(gateways) == 0 {
		return
	}
	_, _ = fmt.Fprintln(w, "\nGateways:")
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "GATEWAY\tHOST\tPID\tVERSION\tSTARTED\tCONFIG\tREAD\tAPPS\tSTATE")
	for _, g := range gateways {
		_, _ = fmt.Fprintln(table, strings.Join([]string{
			printable.Escape(g.ID), printable.Escape(g.Host), strconv.Itoa(g.PID), printable.Escape(g.Version), g.Started.Local().Format(time.DateTime),
			printable.Escape(configOf(g).Hash), readAt(g), summary.Number(g.Apps), replicaState(g),
		}, "\t"))
	}
	_ = table.Flush()
	writeConfigurations(w, gateways)
}

// configOf returns what a replica tells about its configuration.
func configOf(r heartbeat.Replica) heartbeat.Configuration {
	if r.Configuration == nil { // an older version, or one that does not read its configuration again
		return heartbeat.Configuration{Hash: "-"}
	}
	return *r.Configuration
}

// readAt returns the cell READ: when the configuration in use was taken over.
func readAt(r heartbeat.Replica) string {
	if read := configOf(r).Read; !read.IsZero() {
		return read.Local().Format(time.DateTime)
	}
	return "-"
}

// writeConfigurations prints what an operator has to do about the configurations of the replicas.
func writeConfigurations(w io.Writer, replicas []heartbeat.Replica) {
	hashes := make(map[string]bool)
	for _, r := range replicas {
		c := configOf(r)
		if r.Configuration != nil && !r.Lost && !r.Stopping {
			hashes[c.Hash] = true
		}
		if !c.Refused.IsZero() {
			_, _ = fmt.Fprintf(w, "  %s has refused a newer configuration since %s; its log lists the mistakes.\n",
				printable.Escape(r.ID), c.Refused.Local().Format(time.DateTime))
		}
		if len(c.Restart) > 0 {
			_, _ = fmt.Fprintf(w, "  %s has to be restarted for the changes of %s.\n", printable.Escape(r.ID), printable.Escape(strings.Join(c.Restart, ", ")))
		}
	}
	if len(hashes) > 1 {
		what := "replicas"
		if replicas[0].Kind == heartbeat.Gateway {
			what = "gateways"
		}
		_, _ = fmt.Fprintf(w, "  The configurations of the %s differ (CONFIG). Each keeps its own limits.\n", what)
	}
}

// replicaState returns the cell STATE.
func replicaState(r heartbeat.Replica) string {
	switch {
	case r.Lost:
		return "lost: not seen since " + r.Seen.Local().Format(time.DateTime)
	case r.Stopping:
		return "stopping"
	case r.Kind == heartbeat.Gateway:
		return "serving"
	case r.Lanes == 0:
		return "idle"
	}
	return "working"
}
