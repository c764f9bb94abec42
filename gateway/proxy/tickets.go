package proxy

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/apikey"
)

// ticketLife is how long a ticket is valid, unless its key expires before: as long as a token.
const ticketLife = 2 * time.Hour

// ticketKey is the key in Redis of the secret that signs the tickets of all gateways. Private.
const ticketKey = "wxcourier:gateway:ticket_key"

const (
	ticketSecretBytes = 32
	ticketVersion     = 1
	// secretReadPause is how often the secret is read again after tickets that it did not sign:
	// another one may have taken its place in Redis.
	secretReadPause = time.Second
	redisTimeout    = 3 * time.Second
)

// A ticket takes the place of an access token. It allows what its key allows for its app.
type ticket struct {
	app              string
	key, fingerprint string // of the key with which it was got
	expires          time.Time
}

// tickets makes and opens tickets. Nothing of a ticket is stored: it is a text that is signed with
// a secret that all gateways on a Redis share.
type tickets struct {
	rdb redis.UniversalClient
	now func() time.Time

	mu     sync.Mutex
	secret []byte    // guarded by mu; nil: not read yet
	readAt time.Time // guarded by mu; when the secret was last read, or could not be read
}

// issue returns a ticket of a key for an app, and how long it is valid.
func (t *tickets) issue(ctx context.Context, key *apikey.Key, app string) (text string, life time.Duration, err error) {
	now := t.now()
	life = ticketLife
	if !key.Expires.IsZero() {
		life = min(life, key.Expires.Sub(now))
	}
	if life = life.Truncate(time.Second); life <= 0 {
		return "", 0, errWrongKey
	}
	secret, err := t.shared(ctx)
	if err != nil {
		return "", 0, err
	}
	return ticket{app: app, key: key.ID, fingerprint: key.Fingerprint, expires: now.Add(life)}.sign(secret), life, nil
}

// open returns the ticket of a text. It does not check its key.
func (t *tickets) open(ctx context.Context, text string) (ticket, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) <= sha256.Size {
		return ticket{}, errTicket
	}
	content, mac := raw[:len(raw)-sha256.Size], raw[len(raw)-sha256.Size:]
	if signed, err := t.signed(ctx, content, mac); err != nil || !signed {
		return ticket{}, orTicketError(err)
	}
	found, err := parseTicket(content)
	if err != nil {
		return ticket{}, errTicket
	}
	if !t.now().Before(found.expires) {
		return ticket{}, errExpired
	}
	return found, nil
}

func orTicketError(err error) error {
	if err != nil {
		return errRedis
	}
	return errTicket
}

// signed reports whether a signature is that of the secret. It reads the secret again where it is
// not, at most once per secretReadPause.
func (t *tickets) signed(ctx context.Context, content, mac []byte) (bool, error) {
	t.mu.Lock()
	secret, readAt := t.secret, t.readAt
	t.mu.Unlock()
	if secret != nil && hmac.Equal(mac, macOf(secret, content)) {
		return true, nil
	}
	if secret != nil && time.Since(readAt) < secretReadPause {
		return false, nil
	}
	secret, err := t.shared(ctx)
	if err != nil {
		return false, err
	}
	return hmac.Equal(mac, macOf(secret, content)), nil
}

// shared reads the secret from Redis, which the first gateway stores there. While Redis does not
// answer, it is the one that was read last.
func (t *tickets) shared(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, redisTimeout)
	defer cancel()
	fresh := make([]byte, ticketSecretBytes)
	_, _ = rand.Read(fresh) // never fails
	err := t.rdb.SetNX(ctx, ticketKey, fresh, 0).Err()
	var secret []byte
	if err == nil {
		secret, err = t.rdb.Get(ctx, ticketKey).Bytes()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.readAt = time.Now()
	if err == nil && len(secret) == ticketSecretBytes {
		t.secret = secret
	}
	if t.secret == nil {
		return nil, errRedis
	}
	return t.secret, nil
}

func macOf(secret, content []byte) []byte {
	h := hmac.New(sha256.New, secret)
	_, _ = h.Write(content) // never fails
	return h.Sum(nil)
}

// sign returns the text of a ticket.
func (t ticket) sign(secret []byte) string {
	content := []byte{ticketVersion}
	content = binary.BigEndian.AppendUint64(content, uint64(t.expires.Unix())) //nolint:gosec // after 1970
	id, _ := hex.DecodeString(strings.TrimPrefix(t.app, "wx"))                 // a valid app id
	content = append(content, id...)
	for _, text := range []string{t.key, t.fingerprint} {
		content = append(append(content, byte(len(text))), text...) //nolint:gosec // at most 64
	}
	return base64.RawURLEncoding.EncodeToString(append(content, macOf(secret, content)...))
}

var errTicketContent = errors.New("proxy: the content of a ticket cannot be read")

// parseTicket is the inverse of sign, without the signature.
func parseTicket(content []byte) (ticket, error) {
	b := bytes.NewBuffer(content)
	var version byte
	var expires int64
	var id [8]byte
	for _, into := range []any{&version, &expires, &id} {
		if binary.Read(b, binary.BigEndian, into) != nil {
			return ticket{}, errTicketContent
		}
	}
	texts := make([]string, 2)
	for i := range texts {
		n, err := b.ReadByte()
		if err != nil || b.Len() < int(n) {
			return ticket{}, errTicketContent
		}
		texts[i] = string(b.Next(int(n)))
	}
	if version != ticketVersion || b.Len() > 0 {
		return ticket{}, errTicketContent
	}
	return ticket{app: "wx" + hex.EncodeToString(id[:]), key: texts[0], fingerprint: texts[1], expires: time.Unix(expires, 0)}, nil
}
