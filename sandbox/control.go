package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// controlRoutes returns the routes of the control API. Each handler parses its parameters, acts and returns the answer.
func (s *Server) controlRoutes() map[string]func(*http.Request) (any, error) {
	return map[string]func(*http.Request) (any, error){
		"GET /sandbox/calls":      s.controlCalls,
		"GET /sandbox/counts":     func(*http.Request) (any, error) { return s.Counts(), nil },
		"GET /sandbox/tally":      s.controlTally,
		"GET /sandbox/duplicates": func(*http.Request) (any, error) { return s.Duplicates(), nil },
		"GET /sandbox/peak":       s.controlPeak,
		"GET /sandbox/tokens":     s.controlTokens,
		"GET /sandbox/faults":     func(*http.Request) (any, error) { return s.Faults(), nil },
		"POST /sandbox/faults":    s.controlAddFault,
		"DELETE /sandbox/faults":  s.controlRemoveFaults,
		"POST /sandbox/revoke":    s.controlRevoke,
		"POST /sandbox/quota":     s.controlQuota,
		"POST /sandbox/credits":   s.controlCredits,
		"POST /sandbox/latency":   s.controlLatency,
		"POST /sandbox/ip":        s.controlIP,
		"POST /sandbox/secret":    s.controlSecret,
		"POST /sandbox/reset":     func(*http.Request) (any, error) { s.Reset(); return okReply{true}, nil },
		"/sandbox/":               controlUnknown,
	}
}

func (s *Server) controlAPI() http.Handler {
	mux := http.NewServeMux()
	for pattern, act := range s.controlRoutes() {
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
	return mux
}

func controlUnknown(r *http.Request) (any, error) {
	return nil, fmt.Errorf("the control API has no %s %s", r.Method, r.URL.Path)
}

// okReply is the answer to a request that returns no data.
type okReply struct {
	OK bool `json:"ok"`
}

// readControl decodes a body strictly, so that a misspelled field is an error.
func readControl(r *http.Request, into any) error {
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
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
	f := Filter{App: q.Get("app"), Path: q.Get("path"), OpenID: q.Get("openid"), Template: q.Get("template"), Delivered: q.Get("delivered") == "true"}
	for _, text := range q["errcode"] {
		code, err := strconv.Atoi(text)
		if err != nil {
			return nil, errors.New("errcode must be a number")
		}
		f.ErrCodes = append(f.ErrCodes, code)
	}
	calls := s.Calls(f)
	if text := q.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 0 {
			return nil, errors.New("limit must be a number, 0 or more")
		}
		calls = calls[max(0, len(calls)-limit):]
	}
	list := make([]callWithBody, 0, len(calls))
	for _, c := range calls {
		list = append(list, callWithBody{c, string(c.Body)})
	}
	return list, nil
}

func (s *Server) controlTally(r *http.Request) (any, error) {
	q := r.URL.Query()
	return s.CallCount(q.Get("app"), q.Get("openid"), q.Get("target")), nil
}

func (s *Server) controlPeak(r *http.Request) (any, error) {
	q := r.URL.Query()
	return s.Peak(q.Get("app"), q.Get("path")), nil
}

func (s *Server) controlTokens(r *http.Request) (any, error) {
	app := r.URL.Query().Get("app")
	return map[Family]int{Classic: s.TokensIssued(app, Classic), Stable: s.TokensIssued(app, Stable)}, nil
}

func (s *Server) controlAddFault(r *http.Request) (any, error) {
	var f Fault
	err := readControl(r, &f)
	if err == nil {
		f.ID, err = s.AddFault(f)
	}
	return f, err
}

func (s *Server) controlRemoveFaults(r *http.Request) (any, error) {
	text := r.URL.Query().Get("id")
	if text == "" {
		s.ClearFaults()
		return okReply{true}, nil
	}
	if id, err := strconv.Atoi(text); err != nil || !s.RemoveFault(id) {
		return nil, fmt.Errorf("no fault has the id %q", text)
	}
	return okReply{true}, nil
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
