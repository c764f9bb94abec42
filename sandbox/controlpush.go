package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// readControlStrict decodes a body, whose nested members may not have other names either.
func readControlStrict(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("cannot read the body: %w", err)
	}
	return nil
}

func (s *Server) controlCallback(r *http.Request) (any, error) {
	var q struct {
		App    string `json:"app"`
		URL    string `json:"url"`
		Token  string `json:"token"`
		AESKey string `json:"aes_key"`
		Format string `json:"format"`
		Verify bool   `json:"verify"`
	}
	if err := readControl(r, &q); err != nil {
		return nil, err
	}
	err := s.SetCallback(q.App, Callback{URL: q.URL, Token: q.Token, AESKey: q.AESKey, Format: q.Format})
	if err == nil && q.Verify {
		err = s.VerifyCallback(r.Context(), q.App)
	}
	return okReply{true}, err
}

func (s *Server) controlRemoveCallback(r *http.Request) (any, error) {
	return okReply{true}, s.SetCallback(r.URL.Query().Get("app"), Callback{})
}

func (s *Server) controlPushes(r *http.Request) (any, error) {
	q := r.URL.Query()
	f := PushFilter{App: q.Get("app"), Event: q.Get("event"), OpenID: q.Get("openid"), MsgID: q.Get("msgid"), Status: PushStatus(q.Get("status"))}
	statuses := []PushStatus{PushQueued, PushTaken, PushFailed, PushLost, PushDiscarded}
	if f.Status != "" && !slices.Contains(statuses, f.Status) {
		return nil, fmt.Errorf("status must be one of %q", statuses)
	}
	list, err := latest(s.Pushes(f), q.Get("limit"))
	if list == nil {
		list = []Push{}
	}
	return list, err
}

// pushFaultJSON is a PushFault with its delay as text.
type pushFaultJSON struct {
	PushFault
	Text string `json:"delay,omitempty"`
}

func newPushFaultJSON(f PushFault) pushFaultJSON {
	if f.Delay == 0 {
		return pushFaultJSON{PushFault: f}
	}
	return pushFaultJSON{f, f.Delay.String()}
}

func (s *Server) controlPushFaults(*http.Request) (any, error) {
	list := []pushFaultJSON{}
	for _, f := range s.PushFaults() {
		list = append(list, newPushFaultJSON(f))
	}
	return list, nil
}

func (s *Server) controlAddPushFault(r *http.Request) (any, error) {
	var f pushFaultJSON
	if err := readControl(r, &f); err != nil {
		return nil, err
	}
	var err error
	if f.Delay, err = controlDelay(f.Text); err != nil {
		return nil, err
	}
	f.ID, err = s.AddPushFault(f.PushFault)
	return newPushFaultJSON(f.PushFault), err
}

// controlChoices returns the action of a route whose body has choices.
func (s *Server) controlChoices(choose func(app, openid string, choices ...Choice) error) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		var q struct {
			App     string   `json:"app"`
			OpenID  string   `json:"openid"`
			Choices []Choice `json:"choices"`
		}
		if err := readControlStrict(r, &q); err != nil {
			return nil, err
		}
		return okReply{true}, choose(q.App, q.OpenID, q.Choices...)
	}
}

func (s *Server) controlCreditsLeft(r *http.Request) (any, error) {
	q := r.URL.Query()
	return map[string]int{"credits": s.Credits(q.Get("app"), q.Get("openid"), q.Get("template"))}, nil
}

func (s *Server) controlTemplates(r *http.Request) (any, error) {
	return s.Templates(r.URL.Query().Get("app")), nil
}

func (s *Server) controlSetTemplates(r *http.Request) (any, error) {
	var q struct {
		App       string     `json:"app"`
		Templates []Template `json:"templates"`
	}
	if err := readControlStrict(r, &q); err != nil {
		return nil, err
	}
	return okReply{true}, s.SetTemplates(q.App, q.Templates)
}
