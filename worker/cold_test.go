package worker_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// coldNetwork delays the opening of connections, as TLS to a distant server does.
type coldNetwork struct {
	opening time.Duration
	mu      sync.Mutex
	conns   []net.Conn // guarded by mu
}

// transport returns a transport like the client's own, on this network.
func (n *coldNetwork) transport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{DialContext: n.dial, Protocols: protocols, MaxIdleConnsPerHost: 1024}
}

func (n *coldNetwork) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	time.Sleep(n.opening)
	conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err == nil {
		n.mu.Lock()
		n.conns = append(n.conns, conn)
		n.mu.Unlock()
	}
	return conn, err
}

// closeAll closes the connections, and returns their number.
func (n *coldNetwork) closeAll() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, conn := range n.conns {
		_ = conn.Close()
	}
	open := len(n.conns)
	n.conns = nil
	return open
}

// TestColdConnectionsKeepThePace: connections take 40 or 100 ms to open. Calls that wait for a
// new connection do not exceed the limit together with the calls after them, neither at the
// start nor after idle connections were closed.
func TestColdConnectionsKeepThePace(t *testing.T) {
	for _, opening := range []time.Duration{40 * time.Millisecond, 100 * time.Millisecond} {
		t.Run(opening.String(), func(t *testing.T) {
			t.Parallel()
			const perSecond, n = 100, 180 // a scheme's documented limit
			r := newRig(t, redistest.Start(t).Addr(), sandbox.Options{Latency: 20 * time.Millisecond})
			cold := &coldNetwork{opening: opening}
			r.dials = cold.transport()
			r.replica(nil)
			for round := range 2 {
				for i := range n {
					r.submit(tasks.Envelope{Type: tasks.TypeScheme, ID: fmt.Sprintf("m%d-%d", round, i), Body: []byte(`{"jump_wxa":{"path":"pages/index/index","query":""}}`)})
				}
				for i := range n {
					id := fmt.Sprintf("m%d-%d", round, i)
					if got := r.outcome(id); got.Outcome != tasks.OutcomeAccepted || got.Attempts != 1 {
						t.Errorf("%s: %s after %d attempts: %d %s", id, got.Outcome, got.Attempts, got.ErrCode, got.Reason)
					}
				}
				if open := cold.closeAll(); open < 2 {
					t.Errorf("%d connections were opened: the test shows nothing", open)
				}
			}
			if peak := r.wx.Peak(app, "/wxa/generatescheme"); peak.Second > perSecond {
				t.Errorf("%d calls in one second, %d are allowed", peak.Second, perSecond)
			}
		})
	}
}
