// Package chaos holds the tests that break things on purpose: replicas of the real
// program are killed, Redis is killed, loses what it had not written, fails over or is a
// cluster, WeChat breaks connections, and operators press every button of the asynq web UI
// and run commands at random, while a sandbox counts what arrives.
//
//	go test ./internal/chaos                                     # hundreds of tasks and actions, with a fixed seed
//	CHAOS_TASKS=20000 CHAOS_ACTIONS=10000 go test -timeout 30m …  # the full size: make chaos
//	CHAOS_SEED=7 CHAOS_ACTIONS=3000 go test -run AtRandom …       # the actions in another order
package chaos
