package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/wechat/callback"
)

// pushedGateway is the built program as a gateway that receives pushes.
type pushedGateway struct {
	*testing.T
	pushes string // host:port
	cmd    *exec.Cmd
	output e2e.Output
}

// startPushedGateway starts a gateway with a configuration file.
func startPushedGateway(t *testing.T, redisAddr, config string) *pushedGateway {
	t.Helper()
	path, err := e2e.Binary()
	must(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	g := &pushedGateway{T: t, pushes: listener.Addr().String()}
	must(t, listener.Close())
	g.cmd = exec.CommandContext(context.Background(), path, "gateway", "-c", config, "--listen", "127.0.0.1:0", "--log-level", "debug") //nolint:gosec // our own program
	g.cmd.Env = []string{"WXCOURIER_REDIS_ADDRS=" + redisAddr, "WXCOURIER_GATEWAY_CALLBACK_LISTEN=" + g.pushes}
	g.cmd.Stdout, g.cmd.Stderr = &g.output, &g.output
	must(t, g.cmd.Start())
	process := g.cmd.Process
	t.Cleanup(func() { _ = process.Kill() })
	redistest.Until(t, time.Minute, "the gateway receives pushes", func() bool {
		return strings.Contains(g.output.String(), "listening for WeChat's pushes")
	})
	return g
}

// push pushes a message as WeChat does, and returns the status of the answer; 0 without one.
func (g *pushedGateway) push(keys callback.Keys, message string) int {
	g.Helper()
	query, body, err := keys.Seal([]byte(message), "gh_1", time.Now())
	must(g.T, err)
	r, err := http.NewRequestWithContext(g.Context(), http.MethodPost, "http://"+g.pushes+"/callback/"+keys.App+"?"+query.Encode(), bytes.NewReader(body))
	must(g.T, err)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func pushedReceipt(n int) string {
	return fmt.Sprintf(`{"ToUserName":"gh_1","FromUserName":"oSecretPerson","CreateTime":%d,"MsgType":"event","Event":"TEMPLATESENDJOBFINISH","MsgID":%d,"Status":"success"}`, time.Now().Unix(), n)
}

// TestKilledReceiver: a gateway is killed between storing pushes and handling them. What it left is handled
// by another gateway; new keys apply without a restart; nothing secret is logged.
func TestKilledReceiver(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client(t)
	keys := callback.Keys{App: mini, Token: "token1234", AESKey: "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"}
	config := filepath.Join(t.TempDir(), "wxcourier.yaml")
	configure := func(token string) {
		text := fmt.Sprintf("apps:\n  - {id: %s, secret: %s, callback: {token: %s, aes_key: %s}}\n", mini, miniSecret, token, keys.AESKey)
		must(t, os.WriteFile(config+".new", []byte(text), 0o600))
		must(t, os.Rename(config+".new", config))
	}
	configure(keys.Token)
	first := startPushedGateway(t, server.Addr(), config)
	const n = 50
	stream, lease := "wxcourier:{"+mini+"}:pushes", "wxcourier:{"+mini+"}:pushes:lease"
	// Another owner holds the app, so that the gateway stores and does not handle.
	must(t, rdb.Set(t.Context(), lease, "another-gateway", time.Minute).Err())
	for i := range n {
		for first.push(keys, pushedReceipt(i+1)) != http.StatusOK {
			if t.Context().Err() != nil {
				t.FailNow()
			}
		}
	}
	must(t, first.cmd.Process.Kill())
	_ = first.cmd.Wait()
	if got := rdb.XLen(t.Context(), stream).Val(); got != n {
		t.Fatalf("%d pushes are stored, want %d", got, n)
	}
	must(t, rdb.Del(t.Context(), lease).Err()) // as if its time had come
	second := startPushedGateway(t, server.Addr(), config)
	redistest.Until(t, time.Minute, "the second gateway handles them", func() bool { return rdb.XLen(t.Context(), stream).Val() == 0 })
	// A repetition to the second gateway is known there.
	if status := second.push(keys, pushedReceipt(1)); status != http.StatusOK {
		t.Error(status)
	}
	renewed := keys
	renewed.Token = "token5678"
	configure(renewed.Token)
	redistest.Until(t, time.Minute, "the new token applies", func() bool { return second.push(renewed, pushedReceipt(n+1)) == http.StatusOK })
	if status := second.push(keys, pushedReceipt(n+2)); status != http.StatusForbidden {
		t.Errorf("the old token: %d", status)
	}
	for _, hidden := range []string{"oSecretPerson", keys.Token, renewed.Token, keys.AESKey, "signature="} {
		if strings.Contains(first.output.String()+second.output.String(), hidden) {
			t.Errorf("the log has %q", hidden)
		}
	}
	must(t, second.cmd.Process.Signal(os.Interrupt))
	if err := second.cmd.Wait(); err != nil {
		t.Error(err, second.output.String())
	}
}
