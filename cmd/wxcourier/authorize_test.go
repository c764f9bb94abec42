package main_test

import (
	"encoding/json"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/internal/e2e"
	"github.com/wxcourier/wxcourier/sandbox"
	"github.com/wxcourier/wxcourier/tasks"
)

// TestAuthorize: the link that the command prints leads an account to the authorization, whose push
// makes the gateway exchange the code. Then the account is served, and the pushes about its messages,
// which are encrypted with the provider's key, become receipts.
func TestAuthorize(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the built binary")
	}
	t.Parallel()
	p := newProvided(t)
	if out, status := p.command("authorize", "--redirect", "https://www.example.com/welcome"); status != 1 || !strings.Contains(out, "component_verify_ticket") {
		t.Errorf("without a ticket: %d\n%s", status, out)
	}
	p.startGateway()
	p.start("worker")
	must(t, p.wx.PushTicket(providerID))
	p.until("the ticket is stored", func() bool {
		return p.rdb.Exists(t.Context(), "wxcourier:{"+providerID+"}:ticket").Val() == 1
	})
	out, status := p.command("authorize", "--redirect", "https://www.example.com/welcome?from=a&to=b", "--app", authorizerID, "--kind", "account", "--json")
	var links struct {
		Provider, Phone, Browser string
		ExpiresAt                time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil || status != 0 || links.Provider != providerID || time.Until(links.ExpiresAt) < 10*time.Minute {
		t.Fatalf("%d, %v: %s", status, err, out)
	}
	codes := make(map[string]bool)
	for _, link := range []string{links.Phone, links.Browser} {
		u, err := url.Parse(link)
		must(t, err)
		q := u.Query()
		if !strings.HasSuffix(u.Host, ".weixin.qq.com") && u.Host != "mp.weixin.qq.com" || q.Get("component_appid") != providerID || q.Get("auth_type") != "1" ||
			q.Get("biz_appid") != authorizerID || q.Get("redirect_uri") != "https://www.example.com/welcome?from=a&to=b" {
			t.Errorf("the link is %s", link)
		}
		codes[q.Get("pre_auth_code")] = true
	}
	if !strings.HasSuffix(links.Phone, "#wechat_redirect") || len(codes) != 1 {
		t.Errorf("the links are %s and %s", links.Phone, links.Browser)
	}
	for code := range codes {
		_, err := p.wx.AuthorizeWith(providerID, authorizerID, code)
		must(t, err)
		if _, err = p.wx.AuthorizeWith(providerID, authorizerID, code); err == nil {
			t.Error("the code was taken twice")
		}
	}
	must(t, p.wx.SetAuthorizerCallback(providerID, authorizerID, sandbox.Callback{
		URL: "http://" + p.callback + "/callback/" + authorizerID, Token: providerToken, AESKey: providerAES,
	}))
	_, err := p.client.Submit(t.Context(), tasks.Envelope{
		Type: tasks.TypeSubscribe, App: authorizerID, ID: "shipped",
		Body: []byte(`{"touser":"userblock-oBuyer","template_id":"T1","data":{"thing1":{"value":"已发货"}}}`),
	})
	must(t, err)
	p.until("the receipt has come", func() bool {
		r, err := p.client.Result(t.Context(), authorizerID, "shipped")
		return err == nil && r.Outcome == tasks.OutcomeAccepted && r.Receipt == tasks.ReceiptBlocked
	})
	p.wantNoSecrets()
}

// command runs a command to its end, and returns its output and its exit status.
func (p *provided) command(args ...string) (output string, status int) {
	p.Helper()
	path, err := e2e.Binary()
	must(p.T, err)
	cmd := exec.CommandContext(p.Context(), path, append(args, "-c", p.config)...) //nolint:gosec // our own program
	var stderr strings.Builder
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if cmd.ProcessState == nil {
		p.Fatal(err)
	}
	_, _ = p.output.Write([]byte(stderr.String()))
	if len(text) == 0 {
		text = []byte(stderr.String())
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// TestAuthorizeUsage: what is wrong on the command line is said before anything is asked.
func TestAuthorizeUsage(t *testing.T) {
	if testing.Short() {
		t.Skip("starts the built binary")
	}
	t.Parallel()
	p := newProvided(t)
	for want, args := range map[string][]string{
		"--redirect":                         nil,
		"not a URL":                          {"--redirect", "www.example.com"},
		"is not among the providers":         {"--redirect", "https://www.example.com", "--provider", authorizerID},
		"must be one of \"any\",\"account\"": {"--redirect", "https://www.example.com", "--kind", "shop"},
	} {
		if out, status := p.command(append([]string{"authorize"}, args...)...); status != 2 || !strings.Contains(out, want) {
			t.Errorf("%v: %d: %s, want %q", args, status, out, want)
		}
	}
	for path, n := range map[string]int{"/cgi-bin/component/api_create_preauthcode": 0, "/cgi-bin/component/api_component_token": 0} {
		if got := p.wx.Count(sandbox.Filter{Path: path}); got != n {
			t.Errorf("%d calls of %s", got, path)
		}
	}
}
