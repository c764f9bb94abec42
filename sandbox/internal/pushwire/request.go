package pushwire

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Target is where an account's pushes go, and how they are secured.
type Target struct {
	URL   string
	Token string
	Key   []byte // the decoded EncodingAESKey; empty: plain mode
	AppID string // in the encrypted text: of the account, or of its service provider
	JSON  bool   // else XML
}

// Push is one push to a Target.
type Push struct {
	Envelope Element // the member that stays readable beside an encrypted message: ToUserName, or AppId of a service provider
	OpenID   string  // in the query; "" of a service provider
	Body     []Element
	At       time.Time
	Nonce    string
	Random   [randomBytes]byte // before the encrypted message
	Forged   bool              // sign with another token
}

// Verification returns the request by which WeChat checks a URL before it pushes there: the answer must be echo alone.
func (t Target) Verification(ctx context.Context, at time.Time, nonce, echo string) (*http.Request, error) {
	address, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("the URL of the callback: %w", err)
	}
	timestamp := strconv.FormatInt(at.Unix(), 10)
	query := address.Query()
	query.Set("signature", Sign(t.Token, timestamp, nonce))
	query.Set("timestamp", timestamp)
	query.Set("nonce", nonce)
	query.Set("echostr", echo)
	address.RawQuery = query.Encode()
	return http.NewRequestWithContext(ctx, http.MethodGet, address.String(), http.NoBody)
}

// Request returns the signed request for a push.
func (t Target) Request(ctx context.Context, p Push) (*http.Request, error) {
	address, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("the URL of the callback: %w", err)
	}
	token := t.Token
	if p.Forged {
		token += "-forged"
	}
	timestamp := strconv.FormatInt(p.At.Unix(), 10)
	query := address.Query()
	query.Set("signature", Sign(token, timestamp, p.Nonce))
	query.Set("timestamp", timestamp)
	query.Set("nonce", p.Nonce)
	if p.OpenID != "" {
		query.Set("openid", p.OpenID)
	}
	body, err := t.encode(p.Body)
	if err != nil {
		return nil, err
	}
	if len(t.Key) > 0 {
		encrypted, err := Encrypt(t.Key, p.Random, body, t.AppID)
		if err != nil {
			return nil, err
		}
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", Sign(token, timestamp, p.Nonce, encrypted))
		if body, err = t.encode([]Element{p.Envelope, {"Encrypt", Text(encrypted)}}); err != nil {
			return nil, err
		}
	}
	address.RawQuery = query.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "text/xml")
	if t.JSON {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("User-Agent", "Mozilla/4.0")
	return r, nil
}

func (t Target) encode(push []Element) ([]byte, error) {
	if t.JSON {
		return JSON(push)
	}
	return XML(push), nil
}
