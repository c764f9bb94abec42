package main_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/internal/redistest"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

const (
	providerID     = "wxfedcba9876543210"
	providerSecret = "the-secret-of-the-service-provider"
	providerToken  = "provider-token"
	providerAES    = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
	authorizerID   = "wx00000000000000aa" // in no configuration
	authorizerPath = "/cgi-bin/component/api_authorizer_token"
)

// provided is a deployment of a service provider: two workers and a gateway.
type provided struct {
	*testing.T
	wx       *sandbox.Server
	rdb      redis.UniversalClient
	client   *tasks.Client
	config   string
	callback string // address
	output   e2e.Output
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, listener.Close()) }()
	return listener.Addr().String()
}

func newProvided(t *testing.T) *provided {
	t.Helper()
	server := redistest.Start(t)
	p := &provided{T: t, rdb: server.Client(t), config: filepath.Join(t.TempDir(), "wxcourier.yaml"), callback: freeAddress(t)}
	p.client = tasks.NewClient(p.rdb)
	p.wx = sandbox.New(sandbox.Options{
		Apps: map[string]string{}, Providers: map[string]string{providerID: providerSecret}, NoLimits: true, Latency: 5 * time.Millisecond,
		Callbacks: map[string]sandbox.Callback{providerID: {URL: "http://" + p.callback + "/callback/" + providerID, Token: providerToken, AESKey: providerAES}},
	})
	url, stop := p.wx.Start()
	t.Cleanup(stop)
	must(t, os.WriteFile(p.config, fmt.Appendf(nil, `
redis: {addrs: [%q]}
wechat: {base_url: %q, timeout: 3s, attempt_timeout: 6s}
gateway: {listen: %q, callback_listen: %q}
providers:
  - {id: %s, secret: %s, callback: {token: %s, aes_key: %s}, add_apps: true}
`, server.Addr(), url, freeAddress(t), p.callback, providerID, providerSecret, providerToken, providerAES), 0o600))
	return p
}

// start starts a command.
func (p *provided) start(command string) *exec.Cmd {
	p.Helper()
	path, err := e2e.Binary()
	must(p.T, err)
	cmd := exec.CommandContext(context.Background(), path, command, "-c", p.config) //nolint:gosec // our own program
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	must(p.T, cmd.Start())
	p.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// kill ends processes as kill -9 does.
func (p *provided) kill(cmds ...*exec.Cmd) {
	p.Helper()
	for _, cmd := range cmds {
		must(p.T, cmd.Process.Kill())
		_ = cmd.Wait()
	}
}

// startGateway starts a gateway, and waits until it takes pushes.
func (p *provided) startGateway() *exec.Cmd {
	p.Helper()
	cmd := p.start("gateway")
	p.until("the gateway takes pushes", func() bool {
		conn, err := (&net.Dialer{}).DialContext(p.Context(), "tcp", p.callback)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return cmd
}

func (p *provided) until(what string, done func() bool) {
	p.Helper()
	defer func() {
		if p.Failed() {
			p.Logf("the processes:\n%s", p.output.String())
		}
	}()
	redistest.Until(p.T, time.Minute, what, done)
}

const providedTasks = 60

// submit enqueues some messages, each to a person of its own.
func (p *provided) submit(group string) {
	p.Helper()
	for n := range providedTasks {
		p.submitOne(fmt.Sprintf("%s-%d", group, n))
	}
}

func (p *provided) submitOne(id string) {
	p.Helper()
	_, err := p.client.Submit(p.Context(), tasks.Envelope{
		Type: tasks.TypeCustom, App: authorizerID, ID: id, Body: []byte(`{"touser":"o-` + id + `","msgtype":"text","text":{"content":"Hello"}}`),
	})
	must(p.T, err)
}

func (p *provided) delivered(group string) (n int64) {
	for i := range providedTasks {
		n += int64(p.wx.CallCount(authorizerID, fmt.Sprintf("o-%s-%d", group, i), "").Delivered)
	}
	return n
}

func (p *provided) untilDelivered(group string) {
	p.Helper()
	p.until("all of "+group+" are delivered", func() bool { return p.delivered(group) >= providedTasks })
}

func (p *provided) holdReason() string {
	h, err := p.rdb.HGet(p.Context(), "wxcourier:{"+authorizerID+"}:hold:*", "reason").Result()
	if err != nil {
		return ""
	}
	return h
}

// TestServiceProvider: an account authorizes a service provider, takes that back under load, and
// authorizes it again; gateway and workers are killed, also between WeChat's answer with a new refresh
// token and its storing. All messages arrive once, and no secret is printed.
func TestServiceProvider(t *testing.T) {
	t.Parallel()
	p := newProvided(t)
	gateway := p.startGateway()
	workers := []*exec.Cmd{p.start("worker"), p.start("worker")}
	must(t, p.wx.PushTicket(providerID))
	_, err := p.wx.Authorize(providerID, authorizerID)
	must(t, err)

	p.submit("a")
	p.until("some are delivered", func() bool { return p.delivered("a") >= providedTasks/4 })
	must(t, p.wx.Unauthorize(providerID, authorizerID))
	p.until("the app is held", func() bool { return p.holdReason() == "unauthorized" })
	before := p.delivered("b")
	p.submit("b")
	p.kill(gateway)
	if after := p.delivered("b"); after != before {
		t.Errorf("%d messages of an account that took its authorization back", after)
	}
	_, err = p.wx.Authorize(providerID, authorizerID) // its pushes are repeated until the gateway is there
	must(t, err)
	p.startGateway()
	p.untilDelivered("a")
	p.untilDelivered("b")

	p.kill(workers...)
	must(t, p.wx.RotateRefreshTokens(providerID, true))
	must(t, p.rdb.Del(t.Context(), "wxcourier:{"+authorizerID+"}:token").Err())
	_, err = p.wx.AddFault(sandbox.Fault{Name: "hangafter", Path: authorizerPath, Count: 1})
	must(t, err)
	old := p.wx.RefreshToken(providerID, authorizerID)
	workers = []*exec.Cmd{p.start("worker"), p.start("worker")}
	p.submitOne("first") // asks for a token; asynq gives a task of a dead worker back minutes later
	p.until("the refresh token is changed", func() bool { return p.wx.RefreshToken(providerID, authorizerID) != old })
	p.kill(workers...)
	p.start("worker")
	p.start("worker")
	p.submit("c")
	p.untilDelivered("c")

	for _, group := range []string{"a", "b", "c"} {
		if n := p.delivered(group); n != providedTasks {
			t.Errorf("%d messages of %s were delivered, want %d", n, group, providedTasks)
		}
	}
	p.until("the refresh token is stored", func() bool {
		stored, err := p.rdb.HGet(t.Context(), "wxcourier:{"+authorizerID+"}:authorization", "refresh_token").Result()
		return err == nil && stored == p.wx.RefreshToken(providerID, authorizerID)
	})
	p.wantNoSecrets()
}

func (p *provided) wantNoSecrets() {
	p.Helper()
	secrets := append(p.wx.ProviderSecrets(providerID), providerSecret, providerToken, providerAES)
	for _, app := range []string{providerID, authorizerID} {
		for _, token := range p.wx.Tokens(app) {
			secrets = append(secrets, token.Value)
		}
	}
	output := p.output.String()
	for _, secret := range secrets {
		if strings.Contains(output, secret) {
			p.Errorf("a secret was printed:\n%s", output)
		}
	}
	if !strings.Contains(output, "has authorized the service provider") {
		p.Errorf("the authorization was not logged:\n%s", output)
	}
}
