package console

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"net/http"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// sessionKey is the key in Redis of the secret that signs the sessions of all gateways. Private.
const sessionKey = "wxcourier:gateway:session_key"

const (
	sessionLife    = 12 * time.Hour
	sessionVersion = 1
	nonceBytes     = 16
)

// session is what the cookie of a browser has, signed. Nothing of it is stored.
type session struct {
	expires          time.Time
	nonce            [nonceBytes]byte // sets apart the sessions of a key, and so the tokens of their forms
	key, fingerprint string           // with which it was begun
}

// newSession returns a session of a key.
func newSession(key *apikey.Key, now time.Time) session {
	s := session{expires: now.Add(sessionLife), key: key.ID, fingerprint: key.Fingerprint}
	_, _ = rand.Read(s.nonce[:]) // never fails
	if !key.Expires.IsZero() && key.Expires.Before(s.expires) {
		s.expires = key.Expires
	}
	return s
}

// content returns what is signed of a session.
func (s session) content() []byte {
	content := binary.BigEndian.AppendUint64([]byte{sessionVersion}, uint64(s.expires.Unix())) //nolint:gosec // after 1970
	content = append(content, s.nonce[:]...)
	return append(append(append(content, s.key...), 0), s.fingerprint...)
}

var errSession = errors.New("console: the content of a session cannot be read")

// parseSession is the inverse of content.
func parseSession(content []byte) (s session, err error) {
	const fixed = 1 + 8 + nonceBytes
	if len(content) < fixed || content[0] != sessionVersion {
		return session{}, errSession
	}
	s.expires = time.Unix(int64(binary.BigEndian.Uint64(content[1:9])), 0) //nolint:gosec // signed by ourselves
	copy(s.nonce[:], content[9:fixed])
	key, fingerprint, found := bytes.Cut(content[fixed:], []byte{0})
	if !found {
		return session{}, errSession
	}
	s.key, s.fingerprint = string(key), string(fingerprint)
	return s, nil
}

// sessionOf returns the key of a request's session, and the text of the session; ok is false if there
// is none, or it has ended. An error is one of Redis.
func (c *Console) sessionOf(r *http.Request) (key *apikey.Key, text string, ok bool, err error) {
	for _, name := range []string{cookieName(true), cookieName(false)} {
		cookie, none := r.Cookie(name)
		if none != nil {
			continue
		}
		content, err := c.secret.Open(r.Context(), cookie.Value)
		if errors.Is(err, errSignature) {
			continue
		}
		if err != nil {
			return nil, "", false, err
		}
		s, err := parseSession(content)
		if err != nil || !time.Now().Before(s.expires) {
			continue
		}
		key, ok := c.Keys.Get(s.key)
		if ok && key.Fingerprint == s.fingerprint {
			return key, cookie.Value, true, nil
		}
	}
	return nil, "", false, nil
}

// cookieName returns the name of the session's cookie. With the prefix __Host- a browser takes it
// from this host over HTTPS only.
func cookieName(secure bool) string {
	if secure {
		return "__Host-wxcourier"
	}
	return "wxcourier_session"
}

// secure reports whether a browser reaches the gateway over HTTPS.
func (c *Console) secure(r *http.Request) bool {
	return c.Secure || r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https"
}

// setCookie sets a cookie that scripts cannot read. A life of 0 deletes it.
func (c *Console) setCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	cookie := &http.Cookie{ //nolint:gosec // Secure where the browser came over HTTPS
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second),
		HttpOnly: true, SameSite: http.SameSiteLaxMode, Secure: c.secure(r),
	}
	if life <= 0 {
		cookie.MaxAge = -1
	}
	http.SetCookie(w, cookie)
}

// formTokenContext sets the tokens apart from what else is signed with the secret.
const formTokenContext = "form\x00"

// formToken returns the token of the forms of a request: only pages that were served to its session
// have it.
func (c *Console) formToken(ctx context.Context, session string, key *apikey.Key) (string, error) {
	if session != "" { // a secret of the browser
		sum := sha256.Sum256([]byte(formTokenContext + session))
		return base64.RawURLEncoding.EncodeToString(sum[:]), nil
	}
	return c.secret.Sign(ctx, []byte(formTokenContext+key.ID+"\x00"+key.Fingerprint))
}

// checkToken returns a fault unless a form came from a page of the request's session.
func (r *request) checkToken() error {
	sent := r.PostFormValue("token")
	if r.session == "" {
		content, err := r.console.secret.Open(r.Context(), sent)
		if err != nil && !errors.Is(err, errSignature) {
			return err
		}
		if err != nil || string(content) != formTokenContext+r.key.ID+"\x00"+r.key.Fingerprint {
			return faultf(http.StatusForbidden, "fault.token")
		}
		return nil
	}
	want, err := r.console.formToken(r.Context(), r.session, r.key)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(sent), []byte(want)) != 1 {
		return faultf(http.StatusForbidden, "fault.token")
	}
	return nil
}
