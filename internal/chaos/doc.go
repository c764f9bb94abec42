// Package chaos holds the tests that break things on purpose: replicas of the real
// program are killed, Redis is killed, loses what it had not written, fails over or is a
// cluster, and WeChat breaks connections, while a sandbox counts what arrives.
//
//	go test ./internal/chaos                      # hundreds of tasks, with a fixed seed
//	CHAOS_TASKS=20000 go test -timeout 30m …      # the full size: make chaos
package chaos
