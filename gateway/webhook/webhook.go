// Package webhook sends the results of tasks to HTTP endpoints, signed after Standard Webhooks
// (https://www.standardwebhooks.com): headers webhook-id, webhook-timestamp and webhook-signature
// (v1, HMAC-SHA256).
//
//	sender, err := webhook.New(cfg.Webhooks, webhook.Deps{Redis: rdb, Log: log, Registry: registry})
//	err = sender.Run(ctx) // in each gateway; they share the work
//
// An endpoint has a reader of each app's stream of results (see ledger.Reader), which one gateway at
// a time uses:
//
//   - Results are sent in their order, at most 50 and about 18 KB in a call, and at least once. The
//     ids of a batch are stored before it is sent, so that a gateway that takes over repeats the same
//     bytes with the same webhook-id.
//   - An answer 2xx ends a batch. 410 disables the endpoint. Other answers 4xx that concern the
//     content halve the batch, down to the result that is refused: it becomes a dead letter. All
//     other failures are repeated, see retrySchedule.
//   - While an endpoint lags, its results outlive the trimming of the stream. If the hard cap cuts
//     them all the same, the endpoint gets an event of the type gap.
//
// A call has one of these bodies:
//
//	{"type":"results","timestamp":"…","data":{"app":"wx…","results":[{"id":"order-42",…},…]}}
//	{"type":"gap","timestamp":"…","data":{"app":"wx…","from":"…","to":"…"}}
//	{"type":"test","timestamp":"…","data":{"app":"wx…","results":[…]}}
//
// A result is an outcome, or a receipt that supplements one: it has no finished_at then, see
// tasks.Result.IsReceipt.
package webhook

import (
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
)

// Deps are the dependencies of a Sender. Redis and Log are required.
type Deps struct {
	Redis    redis.UniversalClient
	Registry prometheus.Registerer // nil: the metrics are not exported
	Log      *slog.Logger
	// StreamMaxLen is how many results the stream of an app may have while an endpoint lags; 0: as
	// many as without endpoints.
	StreamMaxLen int64
}

// Sender delivers to the endpoints of a configuration. Create it with New.
type Sender struct {
	deps    Deps
	owner   string // of the leases
	tuning  tuning
	metrics *metrics
	changed chan struct{} // something may be due: a turn has ended, or the endpoints have changed
	turns   sync.WaitGroup

	mu      sync.Mutex
	targets []*target // guarded by mu, as is what follows
	busy    map[pair]bool
	waiting map[pair]time.Time // when a reader is asked for again
	version int                // rises with SetEndpoints

	// The fields below belong to Run.
	apps     []string
	tended   map[string]time.Time // by app
	since    map[string]time.Time // see startTimes
	tendedBy int                  // version of the targets
	gone     map[string]bool      // endpoints that are disabled, as last read
	looked   time.Time            // when apps was read
	reported time.Time            // when the gauges were set
	down     bool                 // the last look at Redis failed
}

// pair is the unit of delivery.
type pair struct{ webhook, app string }

// tuning is what tests change.
type tuning struct {
	poll     time.Duration // between two looks for new results
	apps     time.Duration // between two looks for new apps
	lease    time.Duration // must exceed the timeout of a call
	timeout  time.Duration // of a call
	recheck  time.Duration // after which a reader that waits is asked for again
	finish   time.Duration // for calls under way after the end of Run's context
	schedule []time.Duration
}

func defaultTuning() tuning {
	return tuning{
		poll: time.Second, apps: 2 * time.Second, lease: 30 * time.Second, timeout: 15 * time.Second, recheck: 10 * time.Second,
		finish: 2 * time.Second, schedule: retrySchedule(),
	}
}

// New creates a Sender. It does no I/O. The error is that of Validate.
func New(endpoints []Endpoint, deps Deps) (*Sender, error) {
	if deps.Redis == nil || deps.Log == nil {
		return nil, errors.New("webhook: Deps needs Redis and Log")
	}
	host, _ := os.Hostname()
	s := &Sender{
		deps: deps, owner: strings.Join(strings.Fields(host), "-") + ":" + strconv.Itoa(os.Getpid()) + ":" + rand.Text()[:10],
		tuning: defaultTuning(), metrics: newMetrics(), changed: make(chan struct{}, 1),
		busy: make(map[pair]bool), waiting: make(map[pair]time.Time), tended: make(map[string]time.Time),
	}
	if deps.Registry != nil {
		if err := s.metrics.register(deps.Registry); err != nil {
			return nil, err
		}
	}
	return s, s.SetEndpoints(endpoints)
}

// SetEndpoints replaces the endpoints, also while Run runs. An endpoint that stays as it is is not
// interrupted; one that was disabled by an answer 410 is enabled when its URL has changed. The error
// is that of Validate; the endpoints before it stay then.
func (s *Sender) SetEndpoints(endpoints []Endpoint) error {
	if err := Validate(endpoints); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var targets, left []*target
	left = append(left, s.targets...)
	for _, e := range endpoints {
		i := slices.IndexFunc(left, func(t *target) bool { return t.equal(e) })
		if i < 0 {
			t, err := newTarget(e, s.tuning.timeout)
			if err != nil {
				return err
			}
			targets = append(targets, t)
			continue
		}
		targets = append(targets, left[i])
		left = slices.Delete(left, i, i+1)
	}
	for _, t := range left {
		t.client.close()
	}
	s.targets = targets
	s.version++
	clear(s.waiting)
	s.signal()
	return nil
}

// signal makes Run look for work.
func (s *Sender) signal() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// current returns the targets and their version.
func (s *Sender) current() ([]*target, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.targets, s.version
}

// uses reports whether a target is still configured.
func (s *Sender) uses(t *target) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.targets, t)
}
