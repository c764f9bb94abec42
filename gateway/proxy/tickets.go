package proxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/signing"
)

// ticketLife is how long a ticket is valid, unless its key expires before: as long as a token.
const ticketLife = 2 * time.Hour

// ticketKey is the key in Redis of the secret that signs the tickets of all gateways. Private.
const ticketKey = "wxcourier:gateway:ticket_key"

const ticketVersion = 1

// A ticket takes the place of an access token. It allows what its key allows for its app.
type ticket struct {
	app              string
	key, fingerprint string // of the key with which it was got
	expires          time.Time
}

// tickets makes and opens tickets. Nothing of a ticket is stored: it is a text that is signed with
// a secret that all gateways on a Redis share.
type tickets struct {
	secret *signing.Secret // named ticketKey
	now    func() time.Time
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
	text, err = t.secret.Sign(ctx, ticket{app: app, key: key.ID, fingerprint: key.Fingerprint, expires: now.Add(life)}.content())
	if err != nil {
		return "", 0, errRedis
	}
	return text, life, nil
}

// open returns the ticket of a text. It does not check its key.
func (t *tickets) open(ctx context.Context, text string) (ticket, error) {
	content, err := t.secret.Open(ctx, text)
	switch {
	case errors.Is(err, signing.ErrSignature):
		return ticket{}, errTicket
	case err != nil:
		return ticket{}, errRedis
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

// content returns what is signed of a ticket.
func (t ticket) content() []byte {
	content := []byte{ticketVersion}
	content = binary.BigEndian.AppendUint64(content, uint64(t.expires.Unix())) //nolint:gosec // after 1970
	id, _ := hex.DecodeString(strings.TrimPrefix(t.app, "wx"))                 // a valid app id
	content = append(content, id...)
	for _, text := range []string{t.key, t.fingerprint} {
		content = append(append(content, byte(len(text))), text...) //nolint:gosec // at most 64
	}
	return content
}

var errTicketContent = errors.New("proxy: the content of a ticket cannot be read")

// parseTicket is the inverse of content.
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
