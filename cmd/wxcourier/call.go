package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/wxcourier/wxcourier/gateway/proxy"
	"github.com/wxcourier/wxcourier/internal/app"
	"github.com/wxcourier/wxcourier/internal/console"
	"github.com/wxcourier/wxcourier/internal/printable"
	"github.com/wxcourier/wxcourier/wechat"
)

type callCommand struct {
	Path  string   `arg:"" help:"Path of WeChat's API, such as /wxa/generatescheme."`
	Body  string   `arg:"" optional:"" name:"body" placeholder:"JSON|@FILE|-" help:"Body: JSON, @FILE, or - for standard input. Of an image check, the image. Without one the call is a GET."`
	App   string   `required:"" placeholder:"ID" help:"The app."`
	Query []string `sep:"none" placeholder:"NAME=VALUE" help:"Query besides the access token. May be repeated."`
	Out   string   `type:"path" placeholder:"FILE" help:"Write the answer to a file."`
	Yes   bool     `help:"Clear quotas without asking."`
}

func (callCommand) Help() string {
	return `Calls WeChat's server API with the shared access token, under the same limits and holds as the workers, and prints WeChat's answer. The exit status is 0 for errcode 0, and 1 for any other.

A call that a hold stops, or that gets no permit within gateway.wait, is not made. /sns/jscode2session is called with the app's secret in place of the token. A message is sent each time the command runs: to send it once, enqueue it with an id.

Examples:
    wxcourier call /wxa/generatescheme '{"jump_wxa":{"path":"pages/index/index"}}' --app wx0123456789abcdef
    wxcourier call /wxa/getwxacodeunlimit '{"scene":"a=1"}' --app wx0123456789abcdef --out code.jpg
    wxcourier call /cgi-bin/openapi/rid/get '{"rid":"61725984-6126f6f9-040f19c4"}' --app wx0123456789abcdef`
}

// maxCallBody bounds the body of a call, in bytes: WeChat's largest upload.
const maxCallBody = 11 << 20

const pathSession = "/sns/jscode2session"

// Run makes the call.
func (c *callCommand) Run(p *program) error {
	request, err := c.request(p)
	if err != nil {
		return err
	}
	parts, err := p.connect("call")
	if err != nil {
		return err
	}
	defer parts.Close()
	if !app.Known(parts.Current().Apps, c.App) {
		return usageErrorf("call: %s is not among the apps in %s, so there is no access token for it", c.App, p.configName())
	}
	if err := c.confirm(p); err != nil {
		return err
	}
	caller, err := parts.Caller()
	if err != nil {
		return err
	}
	defer caller.Close()
	answer, err := caller.Do(p.ctx, request)
	if err != nil {
		return callError(err)
	}
	return c.print(p, answer)
}

// request returns the call that the arguments describe.
func (c *callCommand) request(p *program) (proxy.Request, error) {
	r := proxy.Request{App: c.App, Path: c.Path, Method: http.MethodGet, Query: make(url.Values), Secret: c.Path == pathSession}
	if err := validApps([]string{c.App}); err != nil {
		return r, err
	}
	if err := c.checkPath(); err != nil {
		return r, err
	}
	for _, member := range c.Query {
		name, value, ok := strings.Cut(member, "=")
		if !ok || name == "" {
			return r, usageErrorf("--query: write NAME=VALUE")
		}
		if slices.Contains([]string{"access_token", "appid", "secret"}, name) && (r.Secret || name == "access_token") {
			return r, usageErrorf("--query: %s is added by itself", name)
		}
		r.Query.Add(name, value)
	}
	if r.Secret && !r.Query.Has("grant_type") {
		r.Query.Set("grant_type", "authorization_code")
	}
	body, err := c.body(p)
	if err != nil || body == nil {
		return r, err
	}
	r.Method = http.MethodPost
	r.Body, r.ContentType = body, "application/json"
	if proxy.TakesImage(c.Path) {
		if r.Body, r.ContentType, err = wechat.ImageForm(body); err != nil {
			return r, usageErrorf("call: the body is not an image: %v", err)
		}
		return r, nil
	}
	if !json.Valid(body) {
		return r, usageErrorf("call: the body is not valid JSON")
	}
	return r, nil
}

func (c *callCommand) checkPath() error {
	switch {
	case strings.Contains(c.Path, "?"):
		return usageErrorf("call: the path has a query; write it as --query NAME=VALUE")
	case strings.Contains(c.Path, "://"):
		return usageErrorf("call: %q has a host; name only the path, such as /wxa/generatescheme", printable.Escape(c.Path))
	case !strings.HasPrefix(c.Path, "/"), path.Clean(c.Path) != c.Path, c.Path == "/", strings.ContainsAny(c.Path, "#% \\"):
		return usageErrorf("call: %q is not a path of WeChat's API, such as /wxa/generatescheme", printable.Escape(c.Path))
	case c.Path == string(wechat.EndpointToken), c.Path == string(wechat.EndpointStableToken):
		return usageErrorf("call: the access token is shared, and not shown; `wxcourier check` shows whether the app gets one")
	}
	return nil
}

// body reads the body of the call; nil for none.
func (c *callCommand) body(p *program) ([]byte, error) {
	var in io.Reader
	file, isFile := strings.CutPrefix(c.Body, "@")
	switch {
	case c.Body == "" && c.Path == string(wechat.EndpointClearQuota):
		return json.Marshal(map[string]string{"appid": c.App})
	case c.Body == "":
		return nil, nil
	case c.Body == "-":
		in = interruptible(p.ctx, p.stdin)
	case isFile:
		f, err := os.Open(file) //nolint:gosec // the user names the file
		if err != nil {
			return nil, usageErrorf("call: the body cannot be read: %v", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	default:
		return []byte(c.Body), nil
	}
	body, err := io.ReadAll(io.LimitReader(in, maxCallBody+1))
	switch {
	case err != nil:
		return nil, usageErrorf("call: the body cannot be read: %v", err)
	case len(body) > maxCallBody:
		return nil, usageErrorf("call: the body is larger than %d MB", maxCallBody>>20)
	case len(body) == 0:
		return nil, usageErrorf("call: the body is empty")
	}
	return body, nil
}

// confirm asks before quotas are cleared.
func (c *callCommand) confirm(p *program) error {
	if c.Path != string(wechat.EndpointClearQuota) && c.Path != "/cgi-bin/clear_quota/v2" || c.Yes {
		return nil
	}
	if c.Body == "-" {
		return usageErrorf("call: the body comes from standard input, so that a confirmation cannot; --yes clears without asking")
	}
	p.notef("This clears today's counts of all APIs of %s at WeChat, which allows it ten times a month.\nType the app id to confirm:", c.App)
	answer, err := bufio.NewReader(p.stdin).ReadString('\n')
	if strings.TrimSpace(answer) != c.App {
		return usageErrorf("not cleared: %s was not confirmed (%s); --yes clears without asking", c.App, cmp.Or(endOfInput(err), "another answer"))
	}
	return nil
}

// print writes the answer, and returns the error of one that is no success.
func (c *callCommand) print(p *program, answer wechat.RawAnswer) error {
	body := bytes.TrimSpace(answer.Body)
	isJSON := json.Valid(body)
	var status struct {
		ErrCode json.Number `json:"errcode"`
	}
	if isJSON {
		_ = json.Unmarshal(body, &status) // a list has no errcode
	}
	code, _ := status.ErrCode.Int64()
	failed := answer.Status != http.StatusOK || code != 0
	terminal := console.New(p.stdout).Terminal()
	switch {
	case c.Out != "" && !failed:
		if err := os.WriteFile(c.Out, answer.Body, 0o600); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
		p.notef("%s: %d bytes of %s", c.Out, len(answer.Body), cmp.Or(answer.Header.Get("Content-Type"), "an unknown type"))
	case isJSON && terminal:
		var line bytes.Buffer
		_ = json.Compact(&line, body) // it is valid
		_, _ = fmt.Fprintln(p.stdout, printable.Escape(line.String()))
	case isJSON:
		_, _ = fmt.Fprintf(p.stdout, "%s\n", body)
	case terminal:
		return fmt.Errorf("the answer is not text (%d bytes of %s): name a file for it with --out FILE", len(answer.Body), cmp.Or(answer.Header.Get("Content-Type"), "an unknown type"))
	default:
		if _, err := p.stdout.Write(answer.Body); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	if !failed {
		return nil
	}
	if code == 0 {
		return fmt.Errorf("HTTP status %d: this is no answer of WeChat's", answer.Status)
	}
	return codeError(wechat.Endpoint(c.Path), int(code))
}

// codeError returns the error of an errcode: what it means at the endpoint, and what to do.
func codeError(endpoint wechat.Endpoint, code int) error {
	text := fmt.Sprintf("errcode %d", code)
	if row, listed := wechat.LookUp(endpoint, code); listed {
		text += ": " + row.Meaning
	}
	if advice := wechat.Advice(&wechat.APIError{Endpoint: endpoint, Code: code}); advice != "" {
		text += "\n" + advice
	}
	return errors.New(text)
}

// callError returns the error of a call that has no answer.
func callError(err error) error {
	var refusal *proxy.Refusal
	switch {
	case errors.As(err, &refusal) && refusal.Unknown:
		return errors.New(refusal.Why)
	case errors.As(err, &refusal):
		return fmt.Errorf("not called: errcode %d %s: %s", refusal.Code, refusal.Msg, refusal.Why)
	}
	return err
}
