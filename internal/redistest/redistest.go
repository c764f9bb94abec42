// Package redistest provides Redis servers for tests: miniredis inside the process, and a
// real redis-server on a free port, which the test may kill and restart.
//
// If redis-server is not installed, tests that need it are skipped; in CI (CI=true) they
// fail.
package redistest

import (
	"flag"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// Each runs fn twice, as subtests: against miniredis and against a real redis-server.
func Each(t *testing.T, fn func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Run("miniredis", func(t *testing.T) {
		_, rdb := Mini(t)
		fn(t, rdb)
	})
	t.Run("redis", func(t *testing.T) {
		fn(t, Start(t).Client(t))
	})
}

// Mini starts a miniredis, and returns it with a client of it. Both are closed when the test
// ends. Keys expire only when the test calls FastForward.
func Mini(t *testing.T) (*miniredis.Miniredis, redis.UniversalClient) {
	t.Helper()
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return m, rdb
}

// Until waits until cond returns true, and fails the test if that takes longer than within.
// what describes the condition. Tests wait for conditions and never sleep for a fixed time.
func Until(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// parallelTests is the default of the flag -parallel.
const parallelTests = 8

// Run runs a package's tests. It sets -parallel to more than the number of processors, unless
// the flag is given, since the tests mostly wait for leases, holds and servers. Call it from
// TestMain.
func Run(m *testing.M) int {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", strconv.Itoa(parallelTests)); err != nil {
			panic(err) // package testing no longer has this flag
		}
	}
	return m.Run()
}
