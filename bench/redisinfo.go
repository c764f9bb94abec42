package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// usage holds figures of Redis since its start.
type usage struct {
	commands int64            // all, including those inside scripts
	calls    map[string]int64 // by command
	cpu      float64          // seconds
}

// usage reads INFO. Each reading is one command, which the next reading counts.
func (l *lab) usage(ctx context.Context) (usage, error) {
	text, err := l.rdb.Info(ctx, "everything").Result()
	if err != nil {
		return usage{}, err
	}
	u := usage{calls: make(map[string]int64)}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		command, isCommand := strings.CutPrefix(name, "cmdstat_")
		switch {
		case name == "total_commands_processed":
			u.commands, err = strconv.ParseInt(value, 10, 64)
		case name == "used_cpu_user" || name == "used_cpu_sys":
			var s float64
			s, err = strconv.ParseFloat(value, 64)
			u.cpu += s
		case isCommand:
			count, _, _ := strings.Cut(strings.TrimPrefix(value, "calls="), ",")
			u.calls[command], err = strconv.ParseInt(count, 10, 64)
		}
		if err != nil {
			return usage{}, fmt.Errorf("INFO has %q: %w", line, err)
		}
	}
	return u, nil
}

// since returns the difference of two readings, without the reading itself.
func (u usage) since(before usage) usage {
	d := usage{commands: u.commands - before.commands - 1, cpu: u.cpu - before.cpu, calls: make(map[string]int64)}
	for name, n := range u.calls {
		d.calls[name] = n - before.calls[name]
	}
	return d
}
