package main

import (
	"path/filepath"
	"regexp"
	"strings"
)

// invocation returns the command by which the user started this program, for messages that
// suggest another command. argv0 is the program's name as the shell passed it, executable the
// path of its file, pkg the path of its package, and exists reports whether a folder exists.
func invocation(argv0, executable, pkg string, exists func(string) bool) string {
	if !builtByGoRun(executable) {
		return shellQuoted(argv0)
	}
	folder := "./cmd/" + filepath.Base(pkg)
	if exists(folder) {
		return "go run " + folder
	}
	return "go run " + pkg
}

// builtByGoRun reports whether go run built the program: into a temporary folder go-build<n>, or
// into the build cache, whose folder is go-build as well.
func builtByGoRun(executable string) bool {
	return regexp.MustCompile(`[/\\]go-build[0-9]*[/\\]`).MatchString(executable)
}

// shellQuoted returns a word as a POSIX shell reads it.
func shellQuoted(word string) string {
	if regexp.MustCompile(`^[\w@%+=:,./\\-]+$`).MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
