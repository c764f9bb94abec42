// Package chaos holds the fault injection tests. They kill replicas of the built program, kill Redis,
// let it lose unwritten data or fail over, run on a cluster, break connections to WeChat, and press
// the buttons of the asynq web UI and run operator commands at random. A sandbox records the
// messages that arrive.
//
//	go test ./internal/chaos                                     # hundreds of tasks and actions, with a fixed seed
//	CHAOS_TASKS=20000 CHAOS_ACTIONS=10000 go test -timeout 30m …  # the full size: make chaos
//	CHAOS_SEED=7 CHAOS_ACTIONS=3000 go test -run AtRandom …       # the actions in another order
package chaos
