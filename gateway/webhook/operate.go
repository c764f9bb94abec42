package webhook

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
)

// State is the state of an endpoint for one app.
type State string

// The states.
const (
	StateCaughtUp   State = "caught_up"   // all results were sent
	StateDelivering State = "delivering"  // some are left
	StateRetrying   State = "retrying"    // the last call failed, and is repeated
	StateDisabled   State = "disabled"    // the endpoint answered 410
	StateNotStarted State = "not_started" // no gateway has seen the endpoint yet
)

// Status is the state of an endpoint for one app, as commands show it.
type Status struct {
	Webhook    string    `json:"webhook"`
	App        string    `json:"app"`
	State      State     `json:"state"`
	Lag        int64     `json:"lag"`                  // results that were not sent
	LagSeconds float64   `json:"lag_seconds"`          // age of the oldest of them
	Error      Class     `json:"error,omitempty"`      // of the last call, if it failed
	HTTPStatus int       `json:"http_status,omitzero"` // its status, if there was an answer
	Attempts   int       `json:"attempts,omitzero"`    // that failed in a row
	Since      time.Time `json:"since,omitzero"`       // of the first of them
	Next       time.Time `json:"next,omitzero"`        // of the next attempt
	Dead       int64     `json:"dead"`                 // dead letters
}

// List returns the state of the endpoints, for all their apps, sorted by name and app.
func List(ctx context.Context, rdb redis.UniversalClient, endpoints []Endpoint) ([]Status, error) {
	all := []Status{}
	if len(endpoints) == 0 {
		return all, nil
	}
	apps, err := appsOf(ctx, rdb, endpoints)
	if err != nil {
		return nil, err
	}
	gone, err := rdb.HGetAll(ctx, endpointsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read the endpoints: %w", err)
	}
	for _, app := range apps {
		readers, err := ledger.Readers(ctx, rdb, app)
		if err != nil {
			return nil, err
		}
		for _, e := range endpoints {
			if !e.WantsApp(app) {
				continue
			}
			s := Status{Webhook: e.Name, App: app, State: StateNotStarted}
			if i := slices.IndexFunc(readers, func(r ledger.ReaderStatus) bool { return r.Name == e.Name }); i >= 0 {
				s.read(readers[i])
			}
			if of, _, _ := strings.Cut(gone[e.Name+":gone"], " "); of == e.fingerprint() {
				s.State = StateDisabled
			}
			all = append(all, s)
		}
	}
	slices.SortStableFunc(all, func(a, b Status) int { return strings.Compare(a.Webhook, b.Webhook) })
	return all, nil
}

// appsOf returns the apps that endpoints name, and those with tasks that they want.
func appsOf(ctx context.Context, rdb redis.UniversalClient, endpoints []Endpoint) ([]string, error) {
	apps, err := rdb.SMembers(ctx, ledger.AppsKey).Result()
	if err != nil {
		return nil, fmt.Errorf("list the apps: %w", err)
	}
	for _, e := range endpoints {
		apps = append(apps, e.Apps...)
	}
	slices.Sort(apps)
	return slices.Compact(apps), nil
}

func (s *Status) read(r ledger.ReaderStatus) {
	n := parseNote(r.Note)
	s.Lag, s.Dead, s.Next = r.Lag, r.Dead, r.Next
	s.State = StateCaughtUp
	if !r.Oldest.IsZero() {
		s.State = StateDelivering
		s.LagSeconds = max(0, time.Since(r.Oldest).Seconds())
	}
	if n.Failures > 0 {
		s.State = StateRetrying
		s.Error, s.HTTPStatus, s.Attempts, s.Since = n.Class, n.Status, n.Failures, n.Since
	}
}

// Rewind lets an endpoint get the results of an app again that were recorded at or after a time, and
// go on from there. It returns their number.
func Rewind(ctx context.Context, rdb redis.UniversalClient, e Endpoint, app string, since time.Time) (int64, error) {
	return ledger.MoveReader(ctx, rdb, app, e.Name, since)
}

// Enable lets an endpoint continue that answered 410, and repeats failed calls now.
func Enable(ctx context.Context, rdb redis.UniversalClient, e Endpoint) error {
	if err := rdb.HDel(ctx, endpointsKey, e.Name+":gone").Err(); err != nil {
		return fmt.Errorf("enable the endpoint: %w", err)
	}
	apps, err := appsOf(ctx, rdb, []Endpoint{e})
	if err != nil {
		return err
	}
	for _, app := range apps {
		if err := ledger.ResumeReader(ctx, rdb, app, e.Name); err != nil {
			return err
		}
	}
	return nil
}

// Resume lets failed calls to an endpoint for one app be repeated now. It does not enable an endpoint
// that answered 410, which concerns all its apps: see [Enable].
func Resume(ctx context.Context, rdb redis.UniversalClient, e Endpoint, app string) error {
	return ledger.ResumeReader(ctx, rdb, app, e.Name)
}

// Skip lets an endpoint go on after the last result of an app that is recorded now: those that were
// not sent never are.
func Skip(ctx context.Context, rdb redis.UniversalClient, e Endpoint, app string) error {
	_, err := ledger.MoveReader(ctx, rdb, app, e.Name, time.Now().Add(24*time.Hour)) // whatever the clock of Redis
	return err
}

// DeadLetter is a result that an endpoint refused, without its content.
type DeadLetter struct {
	ID      string        // of the dead letter
	At      time.Time     // when the task ended
	Task    string        // its id
	Type    string        // of the task
	Outcome tasks.Outcome // of the task
	// Receipt, if it is set: the dead letter is a receipt of the task.
	Receipt    tasks.DeliveryReceipt
	Reason     string // why it was given up: a Class, or words
	HTTPStatus int    // of the answer; 0: there was none
}

// DeadLetters returns up to count dead letters of an app after the one with an id, "" for the first.
func DeadLetters(ctx context.Context, rdb redis.UniversalClient, e Endpoint, app, after string, count int64) ([]DeadLetter, error) {
	letters, err := ledger.DeadLetters(ctx, rdb, app, e.Name, cmp.Or(after, "0-0"), count)
	if err != nil {
		return nil, err
	}
	all := make([]DeadLetter, len(letters))
	for i, l := range letters {
		var r tasks.Result
		_ = json.Unmarshal([]byte(l.Result), &r) // else it is shown without
		all[i] = DeadLetter{
			ID: l.ID, At: ledger.EntryTime(l.Entry), Task: r.ID, Type: r.Type, Outcome: r.Outcome, Receipt: r.Receipt, Reason: l.Reason, HTTPStatus: l.Status,
		}
	}
	return all, nil
}

// Answer is what became of a call that an operator made.
type Answer struct {
	Class      Class  `json:"result"`
	HTTPStatus int    `json:"http_status,omitzero"`
	Detail     string `json:"detail,omitempty"` // of a call without an answer
}

// callTimeout is the timeout of the calls below.
const callTimeout = 15 * time.Second

// Test sends a message of the type test, with a made-up result.
func Test(ctx context.Context, e Endpoint) (Answer, error) {
	c, err := newClient(e, callTimeout)
	if err != nil {
		return Answer{}, err
	}
	defer c.close()
	a := c.send(ctx, newMessage(), sample(time.Now()))
	return Answer{a.class, a.status, a.detail}, nil
}

// Resent counts what became of dead letters.
type Resent struct {
	Delivered int    `json:"delivered"`
	Refused   int    `json:"refused"` // again; they stay dead letters
	Left      bool   `json:"left"`    // some were not sent, since a call failed
	Last      Answer `json:"last"`
}

// ResendDead sends the dead letters of an app to an endpoint again, one a call and each with the
// webhook-id that it had, and deletes those that are accepted. It ends at the first call that fails
// otherwise than by a refusal.
func ResendDead(ctx context.Context, rdb redis.UniversalClient, e Endpoint, app string) (Resent, error) {
	var all Resent
	c, err := newClient(e, callTimeout)
	if err != nil {
		return all, err
	}
	defer c.close()
	for after := "0-0"; ; {
		letters, err := ledger.DeadLetters(ctx, rdb, app, e.Name, after, 100)
		if err != nil || len(letters) == 0 {
			return all, err
		}
		for _, d := range letters {
			after = d.ID
			if d.Message == "" || !json.Valid([]byte(d.Result)) {
				all.Refused++
				continue // it can never be sent
			}
			b := batch{Type: typeResults, Entries: []string{d.Entry}, bodies: []ledger.Entry{{ID: d.Entry, Result: d.Result}}}
			a := c.send(ctx, d.Message, b.body(app))
			all.Last = Answer{a.class, a.status, a.detail}
			switch a.class {
			case ClassOK:
				all.Delivered++
				if err := ledger.DeleteDead(ctx, rdb, app, e.Name, d.ID); err != nil {
					return all, err
				}
			case ClassRefused:
				all.Refused++
			default:
				all.Left = true
				return all, nil
			}
		}
	}
}
