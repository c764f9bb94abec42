package worker

import (
	"net/http"
	"time"
)

// TrustForTest makes a replica trust the certificate of a test's own image host.
func TrustForTest(r *Replica, c *http.Client) { r.fetcher.Transport = c.Transport }

// NewRunnerForTest names a run.
func NewRunnerForTest(r *Replica) string { return r.newRunner() }

// SetClockForTest replaces the clock that hours and expiry go by; call it before Run.
func SetClockForTest(r *Replica, now func() time.Time) { r.now = now }
