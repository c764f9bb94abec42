package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// receiptSends is the number of messages of TestReceiptsAndKills, unless WXCOURIER_RECEIPTS has another.
const receiptSends = 300

// TestReceiptsAndKills: messages are sent whose receipts come late, twice, before the answer, out of order
// or, of one in a hundred, not at all, while the gateway and the worker are killed and started again. Every
// receipt that was pushed is on the result of its message, and no other is.
func TestReceiptsAndKills(t *testing.T) {
	t.Parallel()
	n := receiptSends
	if more, err := strconv.Atoi(os.Getenv("WXCOURIER_RECEIPTS")); err == nil {
		n = more
	}
	server := redistest.Start(t)
	rdb := server.Client(t)
	keys := callback.Keys{App: mini, Token: "token1234", AESKey: "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}
	wx := sandbox.New(sandbox.Options{
		Apps: map[string]string{mini: miniSecret}, Latency: 20 * time.Millisecond, NoLimits: true, KeepCalls: 20_000,
		// A gateway that is killed is away for some time: WeChat would try three times, here each push arrives.
		Pushes: sandbox.PushOptions{Interval: 200 * time.Millisecond, Attempts: 1000, Jitter: 300 * time.Millisecond, Shuffle: 100 * time.Millisecond},
	})
	t.Cleanup(wx.Close)
	url, stop := wx.Start()
	t.Cleanup(stop)
	for name, rate := range map[string]float64{"noreceipt": 0.01, "earlyreceipt": 0.2, "latereceipt": 0.2, "twice": 0.2, "userblock": 0.1} {
		_, err := wx.AddPushFault(sandbox.PushFault{Name: name, Rate: rate})
		must(t, err)
	}
	config := filepath.Join(t.TempDir(), "wxcourier.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil,
		"wechat: {base_url: %q}\napps:\n  - {id: %s, secret: %s, limits: {\"send:subscribe\": {concurrency: %d}}, callback: {token: %s, aes_key: %s}}\n",
		url, mini, miniSecret, inFlightAtMost/2, keys.Token, keys.AESKey), 0o600))
	startGateway := func() *pushedGateway {
		g := startPushedGateway(t, server.Addr(), config)
		must(t, wx.SetCallback(mini, sandbox.Callback{URL: "http://" + g.pushes + "/callback/" + mini, Token: keys.Token, AESKey: keys.AESKey, Format: sandbox.FormatJSON}))
		return g
	}
	gateway := startGateway()
	worker := startKilledWorker(t, server.Addr(), config)

	client := tasks.NewClient(rdb)
	envelopes := make([]tasks.Envelope, n)
	for i := range envelopes {
		envelopes[i] = tasks.Envelope{
			Type: tasks.TypeSubscribe, App: mini, ID: fmt.Sprintf("order-%d", i), Batch: "spring",
			Body: fmt.Appendf(nil, `{"touser":"person-%d","template_id":"T1","data":{"number1":{"value":"%d"}}}`, i, i),
		}
	}
	for _, r := range client.SubmitMany(t.Context(), envelopes) {
		must(t, r.Err)
	}
	ended := func() int {
		counts, err := client.Batch(t.Context(), mini, "spring")
		if err != nil {
			return 0
		}
		return int(counts["done"])
	}
	for kill := 1; kill <= 2; kill++ {
		redistest.Until(t, 3*time.Minute, "messages have ended", func() bool { return ended() >= kill*n/4 })
		must(t, gateway.cmd.Process.Kill())
		must(t, worker.Process.Kill())
		_, _ = gateway.cmd.Wait(), worker.Wait()
		gateway = startGateway()
		worker = startKilledWorker(t, server.Addr(), config)
	}
	// A message that was in flight when its worker was killed ends minutes later, as unknown, and its
	// receipt resolves it: the default size does not wait for that.
	inFlight := 2 * inFlightAtMost
	if n > receiptSends {
		inFlight = 0
	}
	redistest.Until(t, 10*time.Minute, "the messages have ended", func() bool { return ended() >= n-inFlight })
	must(t, wx.WaitPushes(t.Context()))
	compareReceipts(t, rdb, wx, n, inFlight)
}

// inFlightAtMost is how many tasks a worker has in hand at most: half of them in calls.
const inFlightAtMost = 16

// compareReceipts waits until the results have the receipts that were pushed, and checks that they have no
// others.
func compareReceipts(t *testing.T, rdb redis.UniversalClient, wx *sandbox.Server, n, inFlight int) {
	t.Helper()
	pushed := make(map[string]string) // status by msgid
	for _, p := range wx.Pushes(sandbox.PushFilter{Status: sandbox.PushTaken}) {
		pushed[p.MsgID] = p.Receipt
	}
	client := tasks.NewClient(rdb)
	result := func(i int) tasks.Result {
		r, err := client.Result(t.Context(), mini, fmt.Sprintf("order-%d", i))
		must(t, err)
		return r
	}
	joined := func() bool {
		with := 0
		for i := range n {
			r := result(i)
			if _, came := pushed[r.MsgID]; came && r.Receipt == "" {
				return false
			} else if came {
				with++
			}
		}
		return with >= len(pushed)-inFlight
	}
	redistest.Until(t, 5*time.Minute, "every receipt is on its result", joined)
	with := 0
	for i := range n {
		r := result(i)
		if r.Receipt == "" {
			continue
		}
		with++
		// The status of a subscribe message's receipt has WeChat's code before its text, unless that is 0.
		if status, came := pushed[r.MsgID]; !came || r.ReceiptStatus != status && !strings.HasSuffix(r.ReceiptStatus, " "+status) {
			t.Errorf("%s has the receipt %q; pushed was %q", r.ID, r.ReceiptStatus, status)
		}
	}
	entries, counted := 0, map[string]int64{}
	for _, m := range rdb.XRange(t.Context(), ledger.StreamKey(mini), "-", "+").Val() {
		text, _ := m.Values["result"].(string)
		var r tasks.Result
		must(t, json.Unmarshal([]byte(text), &r))
		if r.IsReceipt() {
			entries++
			counted["receipt:"+string(r.Receipt)]++
		}
	}
	counts, err := client.Batch(t.Context(), mini, "spring")
	must(t, err)
	for name, want := range counted {
		if counts[name] != want {
			t.Errorf("the batch counts %d of %s, the stream has %d", counts[name], name, want)
		}
	}
	if entries != with || with < n/4 {
		t.Errorf("%d entries of receipts, %d results of %d with one", entries, with, n)
	}
	t.Logf("%d of %d results have a receipt, %d receipts were pushed", with, n, len(pushed))
}

// startKilledWorker starts a worker that a test kills.
func startKilledWorker(t *testing.T, redisAddr, config string) *exec.Cmd {
	t.Helper()
	path, err := e2e.Binary()
	must(t, err)
	cmd := exec.CommandContext(context.Background(), path, "worker", "-c", config) //nolint:gosec // our own program
	cmd.Env = []string{"WXCOURIER_REDIS_ADDRS=" + redisAddr}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}
