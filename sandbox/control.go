package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// controlRoute is one route of the control API. Its parameters are those of the query, or for a POST the members of the JSON
// body.
type controlRoute struct {
	act      func(*http.Request) (any, error)
	required []string
	optional []string
}

// controlRoutes returns the routes of the control API, by method and path.
func (s *Server) controlRoutes() map[string]controlRoute {
	routes := map[string]controlRoute{
		"GET /sandbox/calls":         {act: s.controlCalls, optional: []string{"app", "path", "openid", "template", "errcode", "delivered", "limit"}},
		"GET /sandbox/counts":        {act: func(*http.Request) (any, error) { return s.Counts(), nil }},
		"GET /sandbox/tally":         {act: s.controlTally, required: []string{"app", "openid"}, optional: []string{"target"}},
		"GET /sandbox/duplicates":    {act: func(*http.Request) (any, error) { return s.Duplicates(), nil }},
		"GET /sandbox/peak":          {act: s.controlPeak, required: []string{"app", "path"}},
		"GET /sandbox/tokens":        {act: s.controlTokens, required: []string{"app"}},
		"GET /sandbox/faults":        {act: s.controlFaults},
		"POST /sandbox/faults":       {act: s.controlAddFault, optional: []string{"fault", "errcode", "errmsg", "app", "path", "openid", "template", "rate", "count", "delay"}},
		"DELETE /sandbox/faults":     {act: controlRemoveRules(s.RemoveFault, s.ClearFaults), optional: []string{"id"}},
		"POST /sandbox/revoke":       {act: s.controlRevoke, required: []string{"app"}},
		"POST /sandbox/quota":        {act: s.controlQuota, required: []string{"app", "path", "used"}},
		"POST /sandbox/credits":      {act: s.controlCredits, required: []string{"app", "openid", "template", "credits"}},
		"POST /sandbox/latency":      {act: s.controlLatency, required: []string{"latency"}},
		"POST /sandbox/ip":           {act: s.controlIP, required: []string{"blocked"}, optional: []string{"app"}},
		"POST /sandbox/secret":       {act: s.controlSecret, required: []string{"app", "secret"}},
		"GET /sandbox/credits":       {act: s.controlCreditsLeft, required: []string{"app", "openid", "template"}},
		"POST /sandbox/popup":        {act: s.controlChoices(s.Popup), required: []string{"app", "openid", "choices"}},
		"POST /sandbox/change":       {act: s.controlChoices(s.Change), required: []string{"app", "openid", "choices"}},
		"GET /sandbox/templates":     {act: s.controlTemplates, required: []string{"app"}},
		"POST /sandbox/templates":    {act: s.controlSetTemplates, required: []string{"app", "templates"}},
		"POST /sandbox/callback":     {act: s.controlCallback, required: []string{"app", "url", "token"}, optional: []string{"aes_key", "format", "verify"}},
		"DELETE /sandbox/callback":   {act: s.controlRemoveCallback, required: []string{"app"}},
		"GET /sandbox/pushes":        {act: s.controlPushes, optional: []string{"app", "event", "openid", "msgid", "status", "limit"}},
		"GET /sandbox/pushcounts":    {act: func(*http.Request) (any, error) { return s.PushCounts(), nil }},
		"GET /sandbox/pushfaults":    {act: s.controlPushFaults},
		"POST /sandbox/pushfaults":   {act: s.controlAddPushFault, required: []string{"fault"}, optional: []string{"app", "event", "openid", "template", "rate", "count", "delay"}},
		"DELETE /sandbox/pushfaults": {act: controlRemoveRules(s.RemovePushFault, s.ClearPushFaults), optional: []string{"id"}},
		"POST /sandbox/reset":        {act: func(*http.Request) (any, error) { s.Reset(); return okReply{true}, nil }},
	}
	maps.Copy(routes, s.componentRoutes())
	return routes
}

func (s *Server) controlAPI() http.Handler {
	mux := http.NewServeMux()
	serve := func(pattern string, act func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := act(r)
			if err != nil {
				p := jsonReply(map[string]string{"error": err.Error()})
				p.status = http.StatusBadRequest
				p.write(w)
				return
			}
			jsonReply(v).write(w)
		})
	}
	for pattern, route := range s.controlRoutes() {
		serve(pattern, route.checked)
	}
	serve(controlPrefix, controlUnknown)
	return mux
}

// checked checks the names of a request's parameters, and then carries it out.
func (c controlRoute) checked(r *http.Request) (any, error) {
	given, err := controlParameters(r)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		switch {
		case slices.Contains(c.required, name), slices.Contains(c.optional, name):
		case len(c.required)+len(c.optional) == 0:
			return nil, fmt.Errorf("unknown parameter %q; %s %s has none", name, r.Method, r.URL.Path)
		default:
			return nil, fmt.Errorf("unknown parameter %q; there are %s", name, strings.Join(slices.Concat(c.required, c.optional), ", "))
		}
	}
	for _, name := range c.required {
		if !given[name] {
			return nil, fmt.Errorf("missing parameter %q", name)
		}
	}
	return c.act(r)
}

// controlParameters returns the names of a request's parameters, and whether each has a value. The body can be read again.
func controlParameters(r *http.Request) (map[string]bool, error) {
	given := map[string]bool{}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, fmt.Errorf("cannot read the query: %w", err)
	}
	if r.Method != http.MethodPost {
		for name := range query {
			given[name] = query.Get(name) != ""
		}
		return given, nil
	}
	for name := range query {
		return nil, fmt.Errorf("unknown parameter %q in the query; the parameters of a POST are in its JSON body", name)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		return nil, fmt.Errorf("cannot read the body: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	if len(bytes.TrimSpace(body)) == 0 {
		return given, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, fmt.Errorf("cannot read the body: %w", err)
	}
	for name, value := range members {
		given[name] = !oneOf(string(value), `""`, "null")
	}
	return given, nil
}

func controlUnknown(r *http.Request) (any, error) {
	return nil, fmt.Errorf("the control API has no %s %s", r.Method, r.URL.Path)
}

// okReply is the answer to a request that returns no data.
type okReply struct {
	OK bool `json:"ok"`
}

// readControl decodes a body, the names of whose members are checked.
func readControl(r *http.Request, into any) error {
	if err := json.NewDecoder(r.Body).Decode(into); err != nil {
		return fmt.Errorf("cannot read the body: %w", err)
	}
	return nil
}

// callWithBody is a Call with its body as text.
type callWithBody struct {
	Call
	Text string `json:"body"`
}

func (s *Server) controlCalls(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := Filter{App: q.Get("app"), Path: q.Get("path"), OpenID: q.Get("openid"), Template: q.Get("template")}
	if text := q.Get("delivered"); text != "" {
		var err error
		if f.Delivered, err = strconv.ParseBool(text); err != nil {
			return nil, errors.New("delivered must be true or false")
		}
	}
	for _, text := range q["errcode"] {
		code, err := strconv.Atoi(text)
		if err != nil {
			return nil, errors.New("errcode must be a number")
		}
		f.ErrCodes = append(f.ErrCodes, code)
	}
	calls, err := latest(s.Calls(f), q.Get("limit"))
	if err != nil {
		return nil, err
	}
	list := make([]callWithBody, 0, len(calls))
	for _, c := range calls {
		list = append(list, callWithBody{c, string(c.Body)})
	}
	return list, nil
}

// latest returns the last elements of a list, as many as limit says; all without one.
func latest[T any](list []T, limit string) ([]T, error) {
	if limit == "" {
		return list, nil
	}
	n, err := strconv.Atoi(limit)
	if err != nil || n < 0 {
		return nil, errors.New("limit must be a number, 0 or more")
	}
	return list[max(0, len(list)-n):], nil
}

func (s *Server) controlTally(r *http.Request) (any, error) {
	q := r.URL.Query()
	return s.CallCount(q.Get("app"), q.Get("openid"), q.Get("target")), nil
}

func (s *Server) controlPeak(r *http.Request) (any, error) {
	q := r.URL.Query()
	if !s.env.paths[q.Get("path")] {
		return nil, fmt.Errorf("path: unknown endpoint %q", q.Get("path"))
	}
	return s.Peak(q.Get("app"), q.Get("path")), nil
}

func (s *Server) controlTokens(r *http.Request) (any, error) {
	app := r.URL.Query().Get("app")
	return map[Family]int{Classic: s.TokensIssued(app, Classic), Stable: s.TokensIssued(app, Stable)}, nil
}

// faultJSON is a Fault with its delay as text.
type faultJSON struct {
	Fault
	Text string `json:"delay,omitempty"`
}

func newFaultJSON(f Fault) faultJSON {
	if f.Delay == 0 {
		return faultJSON{Fault: f}
	}
	return faultJSON{f, f.Delay.String()}
}

func (s *Server) controlFaults(*http.Request) (any, error) {
	list := []faultJSON{}
	for _, f := range s.Faults() {
		list = append(list, newFaultJSON(f))
	}
	return list, nil
}

func (s *Server) controlAddFault(r *http.Request) (any, error) {
	var f faultJSON
	if err := readControl(r, &f); err != nil {
		return nil, err
	}
	var err error
	if f.Delay, err = controlDelay(f.Text); err != nil {
		return nil, err
	}
	f.ID, err = s.AddFault(f.Fault)
	return newFaultJSON(f.Fault), err
}

// controlDelay parses the delay of a fault; "" is none.
func controlDelay(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	delay, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New(`delay must be a duration such as "2s"`)
	}
	return delay, nil
}

// controlRemoveRules returns the action of a route that removes the rule with the parameter id, and without one all rules.
func controlRemoveRules(remove func(id int) bool, removeAll func()) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		if !r.URL.Query().Has("id") {
			removeAll()
			return okReply{true}, nil
		}
		text := r.URL.Query().Get("id")
		if id, err := strconv.Atoi(text); err != nil || !remove(id) {
			return nil, fmt.Errorf("no fault has the id %q", text)
		}
		return okReply{true}, nil
	}
}

func (s *Server) controlRevoke(r *http.Request) (any, error) {
	var q struct {
		App string `json:"app"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	return map[string]int{"revoked": s.Revoke(q.App)}, nil
}

func (s *Server) controlQuota(r *http.Request) (any, error) {
	var q struct {
		App  string `json:"app"`
		Path string `json:"path"`
		Used int64  `json:"used"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	return okReply{true}, s.SetQuota(q.App, q.Path, q.Used)
}

func (s *Server) controlCredits(r *http.Request) (any, error) {
	var q struct {
		App      string `json:"app"`
		OpenID   string `json:"openid"`
		Template string `json:"template"`
		Credits  int    `json:"credits"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	s.SetCredits(q.App, q.OpenID, q.Template, q.Credits)
	return okReply{true}, nil
}

func (s *Server) controlLatency(r *http.Request) (any, error) {
	var q struct {
		Latency string `json:"latency"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	latency, err := time.ParseDuration(q.Latency)
	if err != nil || latency < 0 {
		return nil, errors.New(`latency must be a duration such as "50ms"`)
	}
	s.SetLatency(latency)
	return okReply{true}, nil
}

func (s *Server) controlIP(r *http.Request) (any, error) {
	var q struct {
		App     string `json:"app"`
		Blocked bool   `json:"blocked"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	s.BlockIP(q.App, q.Blocked)
	return okReply{true}, nil
}

func (s *Server) controlSecret(r *http.Request) (any, error) {
	var q struct {
		App    string `json:"app"`
		Secret string `json:"secret"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	if q.App == "" || q.Secret == "" {
		return nil, errors.New("app and secret are required")
	}
	s.SetSecret(q.App, q.Secret)
	return okReply{true}, nil
}
