package main

import "testing"

// TestInvocation: messages that suggest a command name the program as the user started it.
func TestInvocation(t *testing.T) {
	const pkg = "github.com/wxcourier/wxcourier/cmd/wxcourier"
	for _, tt := range []struct {
		argv0, executable string
		inClone           bool
		want              string
	}{
		{"wxcourier", "/usr/local/bin/wxcourier", true, "wxcourier"},
		{"bin/wxcourier", "/home/a/wxcourier/bin/wxcourier", true, "bin/wxcourier"},
		{"/opt/my tools/wxcourier", "/opt/my tools/wxcourier", false, "'/opt/my tools/wxcourier'"},
		{"/tmp/go-build123/b001/exe/wxcourier", "/tmp/go-build123/b001/exe/wxcourier", true, "go run ./cmd/wxcourier"},
		{"/home/a/.cache/go-build/0f/0f1a-d/wxcourier", "/home/a/.cache/go-build/0f/0f1a-d/wxcourier", true, "go run ./cmd/wxcourier"},
		{"/tmp/go-build123/b001/exe/wxcourier", "/tmp/go-build123/b001/exe/wxcourier", false, "go run " + pkg},
		{`C:\Temp\go-build9\b001\exe\wxcourier.exe`, `C:\Temp\go-build9\b001\exe\wxcourier.exe`, true, "go run ./cmd/wxcourier"},
	} {
		exists := func(folder string) bool { return tt.inClone && folder == "./cmd/wxcourier" }
		if got := invocation(tt.argv0, tt.executable, pkg, exists); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.executable, got, tt.want)
		}
	}
}
