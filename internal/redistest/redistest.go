// Package redistest gives tests a Redis to run against: miniredis inside the
// process, and a real redis-server that the test starts itself on a free port,
// and may kill and restart.
//
// Where redis-server is not installed the tests that need it are skipped, saying
// so; in CI (CI=true) a missing one fails them.
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

// Mini starts a miniredis that ends with the test, and a client of it.
// Its clock stands still for TTLs; move it with FastForward.
func Mini(t *testing.T) (*miniredis.Miniredis, redis.UniversalClient) {
	t.Helper()
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	return m, rdb
}

// Until waits for cond to hold, and fails the test when it does not within the
// given time. Tests wait for conditions, never for a span of time.
func Until(t testing.TB, within time.Duration, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// parallelTests is how many parallel tests of a package run at the same time.
const parallelTests = 8

// Run runs a package's tests, more of them at the same time than there are processors:
// they wait for leases, holds and servers most of the time. Whoever says -parallel gets
// that. Call it from TestMain.
func Run(m *testing.M) int {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", strconv.Itoa(parallelTests)); err != nil {
			panic(err) // package testing has no such flag any more
		}
	}
	return m.Run()
}
