package proxy

import (
	"encoding/json"
	"net/http"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/tasks"
)

// maxTicketRequest bounds the body of a request for a ticket, in bytes.
const maxTicketRequest = 16 << 10

// credentials are what a client sends where WeChat wants an app's id and secret.
type credentials struct {
	AppID  string `json:"appid"`
	Secret string `json:"secret"` // a key of the gateway
	Grant  string `json:"grant_type"`
}

// ticketAnswer has the form of WeChat's.
type ticketAnswer struct {
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"` // seconds
}

// serveTicket gives a ticket for a key, where WeChat gives a token for a secret. WeChat is not
// called.
func (p *Proxy) serveTicket(w http.ResponseWriter, r *http.Request) error {
	c, err := ticketRequest(w, r)
	if err != nil {
		return err
	}
	if c.Grant != "client_credential" {
		return errGrant
	}
	key, err := p.authenticate(c)
	if err != nil {
		return err
	}
	text, life, err := p.tickets.issue(r.Context(), key, c.AppID)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, ticketAnswer{text, int(life.Seconds())})
	return nil
}

// ticketRequest reads a request for a ticket: JSON for stable_token, and a query or a form for token.
func ticketRequest(w http.ResponseWriter, r *http.Request) (c credentials, err error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxTicketRequest)
	if r.URL.Path == pathStableToken {
		if r.Method != http.MethodPost {
			return c, errPost
		}
		if json.NewDecoder(r.Body).Decode(&c) != nil {
			return c, errForm
		}
		return c, nil
	}
	if r.ParseForm() != nil {
		return c, errForm
	}
	return credentials{AppID: r.Form.Get("appid"), Secret: r.Form.Get("secret"), Grant: r.Form.Get("grant_type")}, nil
}

// authenticate returns the key of credentials, if it may call WeChat for the app now.
func (p *Proxy) authenticate(c credentials) (*apikey.Key, error) {
	switch {
	case c.AppID == "":
		return nil, errNoAppID
	case c.Secret == "":
		return nil, errNoKey
	}
	key, err := p.keys.Authenticate(c.Secret)
	if err != nil {
		return nil, errWrongKey
	}
	if _, ok := p.deps.App(c.AppID); !ok || !tasks.ValidApp(c.AppID) {
		return nil, errApp
	}
	if err := check(key, c.AppID); err != nil {
		return nil, err
	}
	if _, ok := key.Admit(); !ok {
		return nil, errKeyRate
	}
	return key, nil
}

// serveSession passes a login on to WeChat with the app's secret in place of the key.
func (p *Proxy) serveSession(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	c := credentials{AppID: query.Get("appid"), Secret: query.Get("secret")}
	query.Del("appid")
	query.Del("secret")
	key, err := p.authenticate(c)
	if err != nil {
		return err
	}
	body, err := readBody(w, r, key)
	if err != nil {
		return err
	}
	answer, err := p.caller.Do(r.Context(), Request{
		App: c.AppID, Path: pathSession, Method: r.Method, Query: query,
		ContentType: r.Header.Get("Content-Type"), Body: body, Secret: true,
	})
	if err != nil {
		return err
	}
	writeAnswer(w, answer)
	return nil
}
