package callback

import (
	"crypto/sha1" //nolint:gosec // WeChat's signatures are SHA-1
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Keys are what WeChat and the receiver of its pushes share: the settings of the message push (消息推送)
// in WeChat's console. Printing them shows the app alone.
type Keys struct {
	// App is the id that encrypted pushes name: of the app, or of the service provider.
	App string `json:"app"`
	// Token signs.
	Token string `json:"-"`
	// AESKey is the EncodingAESKey, 43 characters, of the safe and the compatible mode; "" is the plain
	// mode. With a key, pushes that are not encrypted are refused: the signature of a plain push does
	// not cover its body.
	AESKey string `json:"-"`
}

// The errors of a request that does not come from WeChat, or not with these keys. They are wrapped.
var (
	ErrSignature = errors.New("callback: the signature is wrong")
	ErrAge       = errors.New("callback: the timestamp is too old, or in the future")
	ErrPlain     = errors.New("callback: the push is not encrypted")
	ErrDecrypt   = errors.New("callback: the push cannot be decrypted")
	ErrApp       = errors.New("callback: the push is for another app")
	ErrFormat    = errors.New("callback: the push is neither the XML nor the JSON of WeChat")
)

// DefaultMaxAge is by how much the timestamp of a request may differ from the own clock. WeChat repeats
// a push within seconds; the rest is for clocks, and for pushes that WeChat held up.
const DefaultMaxAge = time.Hour

// keyLength is the length of an EncodingAESKey.
const keyLength = 43

// maxToken is more than the maximum length of a token by WeChat's console, which is 32.
const maxToken = 128

// Validate reports all problems of the keys at once, each of the form "token: problem".
func (k Keys) Validate() error {
	var faults []error
	if k.App == "" {
		faults = append(faults, errors.New("app: required: the app id that pushes are for"))
	}
	switch {
	case k.Token == "":
		faults = append(faults, errors.New("token: required: the Token of the message push in WeChat's console"))
	case len(k.Token) > maxToken || strings.ContainsFunc(k.Token, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		faults = append(faults, fmt.Errorf("token: not a Token of WeChat's console: letters and digits, at most %d", maxToken))
	}
	if _, err := k.aes(); err != nil && k.AESKey != "" {
		faults = append(faults, fmt.Errorf("aes_key: %w", err))
	}
	return errors.Join(faults...)
}

// aes returns the key of AES. The unused low bits of the 43rd character are ignored.
func (k Keys) aes() ([]byte, error) {
	if len(k.AESKey) != keyLength {
		return nil, fmt.Errorf("has %d characters; an EncodingAESKey has %d", len(k.AESKey), keyLength)
	}
	if strings.ContainsAny(k.AESKey, "\r\n") {
		return nil, errors.New("has a line break")
	}
	key, err := base64.StdEncoding.DecodeString(k.AESKey + "=")
	if err != nil {
		return nil, errors.New("is not an EncodingAESKey: 43 letters and digits")
	}
	return key, nil
}

// String implements fmt.Stringer, without the secrets.
func (k Keys) String() string { return "callback.Keys{App: " + k.App + "}" }

// GoString implements fmt.GoStringer, without the secrets.
func (k Keys) GoString() string { return k.String() }

// LogValue implements slog.LogValuer, without the secrets.
func (k Keys) LogValue() slog.Value { return slog.StringValue(k.String()) }

// Sign returns the signature of texts together with the token: hexadecimal SHA-1 of all of them, sorted
// and joined. The texts are a timestamp, a nonce and, for a msg_signature, what is encrypted.
func (k Keys) Sign(texts ...string) string {
	all := append([]string{k.Token}, texts...)
	slices.Sort(all)
	sum := sha1.Sum([]byte(strings.Join(all, ""))) //nolint:gosec // WeChat's signatures are SHA-1
	return hex.EncodeToString(sum[:])
}

// verify reports whether a signature is that of texts, in constant time.
func (k Keys) verify(signature string, texts ...string) bool {
	return k.Token != "" && subtle.ConstantTimeCompare([]byte(signature), []byte(k.Sign(texts...))) == 1
}

// VerifyQuery verifies the parameter signature of a request's query: its sender has the token. It says nothing about the body, and is enough for a request that verifies the URL (GET),
// which is answered with the parameter echostr.
func (k Keys) VerifyQuery(query url.Values) error {
	if !k.verify(query.Get("signature"), query.Get("timestamp"), query.Get("nonce")) {
		return ErrSignature
	}
	return nil
}

// CheckAge returns ErrAge unless the parameter timestamp of a request's query is within maxAge before or
// after now.
func CheckAge(query url.Values, now time.Time, maxAge time.Duration) error {
	seconds, err := strconv.ParseInt(query.Get("timestamp"), 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > maxAge {
		return ErrAge
	}
	return nil
}
