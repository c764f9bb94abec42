// Package check checks the files of configs/deploy: what reads them parses them strictly, and the
// commands in them start the real program. It is a module of its own, so that the program does not
// depend on the types of Kubernetes and Compose.
//
// A test whose tool (promtool, prometheus, systemd-analyze, redis-server) is not installed is
// skipped; in CI (CI=true) it fails.
package check
