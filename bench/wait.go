package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/wxcourier/wxcourier/bench/clock"
	"github.com/wxcourier/wxcourier/bench/standin"
)

// count returns the number of calls that have arrived.
func (l *lab) count() (n int, err error) {
	text, err := l.get(l.wechat + "/bench/count")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// arrivals returns all calls that have arrived.
func (l *lab) arrivals() ([]standin.Arrival, error) { return l.arrivalsAt(l.wechat) }

// arrivalsAt returns the calls at the stand-in with this URL.
func (l *lab) arrivalsAt(standIn string) (all []standin.Arrival, err error) {
	text, err := l.get(standIn + "/bench/arrivals")
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(text, &all)
}

func (l *lab) get(url string) ([]byte, error) {
	q, err := http.NewRequestWithContext(l.ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(q)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	return io.ReadAll(answer.Body)
}

// pollEvery is the interval at which conditions are checked.
const pollEvery = 100 * time.Millisecond

// waitForCalls waits until n calls have arrived.
func (l *lab) waitForCalls(n int, within time.Duration) error {
	return waitUntil(l.ctx, within, fmt.Sprintf("%d calls arrive", n), func() (bool, error) {
		if err := l.checkProcesses(); err != nil {
			return false, err
		}
		got, err := l.count()
		return got >= n, err
	})
}

// waitUntil waits until met returns true or an error. what names the condition in the error of a
// timeout.
func waitUntil(ctx context.Context, within time.Duration, what string, met func() (bool, error)) error {
	deadline := time.Now().Add(within)
	for {
		ok, err := met()
		if ok || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("timeout after %v: %s", within, what)
		}
		if err := clock.Pause(ctx, pollEvery); err != nil {
			return err
		}
	}
}
