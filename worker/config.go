package worker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/tasks"
)

// Config is the section `worker` of the configuration.
type Config struct {
	// ShutdownTimeout bounds a shutdown. It must exceed wechat.attempt_timeout, and be
	// less than the grace period of the platform (Kubernetes: 30 s). Default 25 s.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
	// Attempts is how many attempts may fail with transient errors before the task ends
	// as "failed". Waiting for quota is not an attempt. Default 8.
	Attempts int `yaml:"attempts"`
	// MediaHosts lists the hosts from which the images of checks may be fetched (host or
	// host:port, https only). Default none.
	MediaHosts []string `yaml:"media_hosts"`
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{ShutdownTimeout: 25 * time.Second, Attempts: 8}
}

// Validate reports all mistakes at once, each with its key.
func (c Config) Validate() error {
	var faults []error
	if c.ShutdownTimeout < time.Second || c.ShutdownTimeout > time.Hour {
		faults = append(faults, fmt.Errorf("shutdown_timeout: %v is not between 1s and 1h", c.ShutdownTimeout))
	}
	if c.Attempts < 1 || c.Attempts > 100 {
		faults = append(faults, fmt.Errorf("attempts: %d is not between 1 and 100", c.Attempts))
	}
	for i, host := range c.MediaHosts {
		if host == "" || strings.ContainsAny(host, "/ @?#") {
			faults = append(faults, fmt.Errorf("media_hosts[%d]: %q is not a host; write it like img.example.com, with no scheme and no path", i, host))
		}
	}
	return errors.Join(faults...)
}

// ResultsConfig is the section `results` of the configuration.
type ResultsConfig struct {
	// Retention is how long a task's record is kept after its outcome, and at least how
	// long its entry stays in the app's stream of results. Until the record expires, no
	// other task can have its id. Default 24 h.
	Retention time.Duration `yaml:"retention"`
	// AsynqRetention is how long asynq keeps a completed task, for its web UI, with the result
	// and the payload. It must not exceed Retention. Default 0: a completed task leaves asynq at
	// once.
	AsynqRetention time.Duration `yaml:"asynq_retention"`
	// Archive lists the outcomes whose tasks asynq archives as failed, for its web UI, with the
	// reason as the error: any of them but accepted. The copies are deleted after Retention.
	// Default failed, unknown, rejected.
	Archive []tasks.Outcome `yaml:"archive"`
	// StreamMaxLen protects Redis' memory: it caps each app's stream of results, in
	// entries, even if these are younger than Retention; Redis trims it approximately.
	// 0: no cap. Default 10,000,000.
	StreamMaxLen int64 `yaml:"stream_max_len"`
	// StreamLagMaxLen is how many entries an app's stream may have while the endpoint of a
	// webhook lags, beyond Retention and StreamMaxLen. 0: nothing is kept longer for it.
	// Default 2,000,000.
	StreamLagMaxLen int64 `yaml:"stream_lag_max_len"`
	// IndexOpenIDs makes tasks findable by the openid of their receiver: Redis keeps a hash of it,
	// with the task's id, for Retention and up to two days more. Default true.
	IndexOpenIDs bool `yaml:"index_openids"`
	// StreamRetention, if not 0, replaces Retention for the stream. It has no key in the
	// configuration: a process with a private Redis sets it, whose streams may have to
	// outlive the records, since their reader is slow.
	StreamRetention time.Duration `yaml:"-"`
}

// DefaultResultsConfig returns the defaults. The cap exceeds what one app sends in a day with
// 115 messages a second, all that WeChat grants for subscribe messages. Up to there the records
// need more memory than the stream, and only Retention limits them.
func DefaultResultsConfig() ResultsConfig {
	return ResultsConfig{
		Retention: 24 * time.Hour, StreamMaxLen: 10_000_000, StreamLagMaxLen: 2_000_000, IndexOpenIDs: true,
		Archive: []tasks.Outcome{tasks.OutcomeFailed, tasks.OutcomeUnknown, tasks.OutcomeRejected},
	}
}

// Validate reports all mistakes at once, each with its key.
func (c ResultsConfig) Validate() error {
	var faults []error
	if c.Retention < time.Minute || c.Retention > 90*24*time.Hour {
		faults = append(faults, fmt.Errorf("retention: %v is not between 1m and 2160h (90 days)", c.Retention))
	}
	switch d := c.AsynqRetention; {
	case d < 0 || d > 0 && d < time.Second:
		faults = append(faults, fmt.Errorf("asynq_retention: %v is neither 0 nor at least 1s", d))
	case d > c.Retention:
		faults = append(faults, fmt.Errorf("asynq_retention: %v exceeds results.retention (%v), for which the record of a task is kept", d, c.Retention))
	}
	for i, outcome := range c.Archive {
		if !slices.Contains(archivable(), outcome) {
			faults = append(faults, fmt.Errorf("archive[%d]: %q is none of %v", i, outcome, archivable()))
		}
	}
	if c.StreamMaxLen < 0 {
		faults = append(faults, fmt.Errorf("stream_max_len: %d is negative; give a number of entries, or 0 for no maximum", c.StreamMaxLen))
	}
	if c.StreamLagMaxLen < 0 {
		faults = append(faults, fmt.Errorf("stream_lag_max_len: %d is negative; give a number of entries, or 0 to keep nothing longer", c.StreamLagMaxLen))
	}
	return errors.Join(faults...)
}

// archivable returns the outcomes that may be archived as failed: all but accepted.
func archivable() []tasks.Outcome {
	return slices.DeleteFunc(tasks.Outcomes(), func(o tasks.Outcome) bool { return o == tasks.OutcomeAccepted })
}
