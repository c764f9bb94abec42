package callback

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Format is how a push is written.
type Format string

// The formats.
const (
	XML  Format = "xml"
	JSON Format = "json"
)

// ContentType returns the media type with which WeChat sends the format.
func (f Format) ContentType() string {
	if f == JSON {
		return "application/json; charset=utf-8"
	}
	return "text/xml; charset=utf-8"
}

// formatOf returns the format of a body by its first character.
func formatOf(body []byte) (Format, error) {
	body = bytes.TrimLeft(bytes.TrimPrefix(body, []byte("\uFEFF")), " \t\r\n")
	switch {
	case bytes.HasPrefix(body, []byte("<")):
		return XML, nil
	case bytes.HasPrefix(body, []byte("{")):
		return JSON, nil
	}
	return "", ErrFormat
}

// Message is a push whose sender was verified.
type Message struct {
	Body      []byte // decrypted, as WeChat wrote it
	Format    Format
	Encrypted bool
}

// Open verifies that a push was sent by WeChat, and decrypts it. query and body are those of the
// request. It does not check the age, see [CheckAge]. An error is one of ErrSignature, ErrPlain,
// ErrDecrypt, ErrApp and ErrFormat.
func (k Keys) Open(query url.Values, body []byte) (Message, error) {
	if k.AESKey == "" {
		return k.openPlain(query, body)
	}
	format, err := formatOf(body)
	if err != nil {
		return Message{}, err
	}
	root, err := parseNode(format, body)
	if err != nil {
		return Message{}, err
	}
	encrypted := root.field("Encrypt")
	if encrypted == "" {
		return Message{}, ErrPlain
	}
	if !k.verify(query.Get("msg_signature"), query.Get("timestamp"), query.Get("nonce"), encrypted) {
		return Message{}, ErrSignature
	}
	plain, err := k.Decrypt(encrypted)
	if err != nil {
		return Message{}, err
	}
	if format, err = formatOf(plain); err != nil {
		return Message{}, err
	}
	return Message{Body: plain, Format: format, Encrypted: true}, nil
}

// openPlain verifies a push of the plain mode.
func (k Keys) openPlain(query url.Values, body []byte) (Message, error) {
	if err := k.VerifyQuery(query); err != nil {
		return Message{}, err
	}
	format, err := formatOf(body)
	if err != nil {
		return Message{}, err
	}
	if query.Get("encrypt_type") == "aes" {
		root, err := parseNode(format, body)
		if err != nil {
			return Message{}, err
		}
		if root.field("MsgType") == "" && root.field("Encrypt") != "" {
			return Message{}, fmt.Errorf("%w: it is encrypted, and there is no AES key", ErrDecrypt)
		}
	}
	return Message{Body: body, Format: format}, nil
}

// Success is the body of an answer that takes a push and says nothing to the person.
const Success = "success"

// Reply returns the body of the answer to a push: a passive reply (被动回复), encrypted if the push was.
// An empty reply is Success.
func (k Keys) Reply(m Message, reply []byte, now time.Time) (body []byte, contentType string, err error) {
	if trimmed := bytes.TrimSpace(reply); len(trimmed) == 0 || string(trimmed) == Success {
		return []byte(Success), "text/plain; charset=utf-8", nil
	}
	if !m.Encrypted {
		return reply, m.Format.ContentType(), nil
	}
	encrypted, err := k.Encrypt(reply)
	if err != nil {
		return nil, "", err
	}
	stamp, nonce := strconv.FormatInt(now.Unix(), 10), newNonce()
	return sealedReply(m.Format, encrypted, k.Sign(stamp, nonce, encrypted), stamp, nonce), m.Format.ContentType(), nil
}

// sealedReply writes an encrypted reply. Its parts have no character that must be escaped.
func sealedReply(f Format, encrypted, signature, stamp, nonce string) []byte {
	if f == JSON {
		return []byte(`{"Encrypt":"` + encrypted + `","MsgSignature":"` + signature + `","TimeStamp":` + stamp + `,"Nonce":"` + nonce + `"}`)
	}
	return []byte("<xml><Encrypt><![CDATA[" + encrypted + "]]></Encrypt><MsgSignature><![CDATA[" + signature +
		"]]></MsgSignature><TimeStamp>" + stamp + "</TimeStamp><Nonce><![CDATA[" + nonce + "]]></Nonce></xml>")
}

// newNonce returns a random number of nine digits.
func newNonce() string {
	n, err := rand.Int(rand.Reader, big.NewInt(900_000_000))
	if err != nil { // the system has no random numbers
		return "100000000"
	}
	return strconv.FormatInt(100_000_000+n.Int64(), 10)
}

// Seal returns the query and the body of the request with which WeChat pushes a message: signed, and
// with an AES key encrypted. It serves tests of receivers, and stand-ins for WeChat. to is the
// ToUserName, an original id (gh_…).
func (k Keys) Seal(message []byte, to string, now time.Time) (query url.Values, body []byte, err error) {
	stamp, nonce := strconv.FormatInt(now.Unix(), 10), newNonce()
	query = url.Values{"signature": {k.Sign(stamp, nonce)}, "timestamp": {stamp}, "nonce": {nonce}}
	if k.AESKey == "" {
		return query, message, nil
	}
	format, err := formatOf(message)
	if err != nil {
		return nil, nil, err
	}
	encrypted, err := k.Encrypt(message)
	if err != nil {
		return nil, nil, err
	}
	query.Set("encrypt_type", "aes")
	query.Set("msg_signature", k.Sign(stamp, nonce, encrypted))
	if format == JSON {
		body, err = json.Marshal(map[string]string{"ToUserName": to, "Encrypt": encrypted})
		return query, body, err
	}
	to = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(to)
	return query, []byte("<xml><ToUserName>" + to + "</ToUserName><Encrypt><![CDATA[" + encrypted + "]]></Encrypt></xml>"), nil
}
