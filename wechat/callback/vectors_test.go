package callback

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The vectors of WeChat's page about the message push. Their AES key is 32 zero bytes, so that they
// cannot tell an IV of the key from one of zeros: ownEncrypted, made with openssl, can.
const (
	encrypted1 = "+qdx1OKCy+5JPCBFWw70tm0fJGb2Jmeia4FCB7kao+/Q5c/ohsOzQHi8khUOb05JCpj0JB4RvQMkUyus8TPxLKJGQqcvZqzDpVzazhZv6JsXUnnR8XGT740XgXZUXQ7vJVnAG+tE8NUd4yFyjPy7GgiaviNrlCTj+l5kdfMuFUPpRSrfMZuMcp3Fn2Pede2IuQrKEYwKSqFIZoNqJ4M8EajAsjLY2km32IIjdf8YL/P50F7mStwntrA2cPDrM1kb6mOcfBgRtWygb3VIYnSeOBrebufAlr7F9mFUPAJGj04="
	message1   = `{"ToUserName":"gh_97417a04a28d","FromUserName":"o9AgO5Kd5ggOC-bXrbNODIiE3bGY","CreateTime":1714112445,"MsgType":"event","Event":"debug_demo","debug_str":"hello world"}`
	encrypted2 = "ELGduP2YcVatjqIS+eZbp80MNLoAUWvzzyJxgGzxZO/5sAvd070Bs6qrLARC9nVHm48Y4hyRbtzve1L32tmxSQ=="

	ownAESKey    = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C" // the last character has bits that count for nothing
	ownEncrypted = "sKqRbbiSUnDhFHOvPjtUMXm/BtY1w9CA89eD/uVyWTaZgICa6YZ00CSjHVmI/tK3GnXm/CnT7LFP0fbobhRS2A4/KbQqbO/rLDW4Xo2GRzmSbqTbgA4LaKnPO/8gh4Dw0ox3zezd0hA0PzfeTjvSkoHX5cUdOne2DL/L/SxSCKi+U0VHTFqKvZwfI2xGY09DXFSZ4Nlz3/3Sgvi/CU6ZE/edd1SKb3yehtliXZ6vI1VHYdfkKpO8VNv5RDuY/R247uJhTtX4acikRWj2KDOW7F82FcN3Z/C1k/VFAL2iKkdDaraXFW7j+L8+58FwklEYqUrLZU4T1QbmeqW0+1aZn2hcTl2EXJYsJRcF2vimFxJEN6NKiIv5sLta9Of+DF3B98k2RXRRiMrDp0be/l/4gIEIIgo1g0N2VAalwyXgnDD8NeIHJlxXWdVikE5m5Y/Nhdx4/gIaadlJZFs2eatQaRJah3n/G5BTK8S4b83ikdy65/4vjowoHoB21qXQQRv9"
	ownMessage   = `<xml><ToUserName><![CDATA[gh_7f083739789a]]></ToUserName><FromUserName><![CDATA[oia2TjuEGTNoeX76QEjQNrcURxG8]]></FromUserName><CreateTime>1395658920</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>3395159288267931652</MsgID><Status><![CDATA[failed:user block]]></Status></xml>`
)

func officialKeys() Keys {
	return Keys{App: "wxba5fad812f8e6fb9", Token: "AAAAA", AESKey: strings.Repeat("A", keyLength)}
}

func ownKeys() Keys { return Keys{App: "wx0123456789abcdef", Token: "spamtest", AESKey: ownAESKey} }

func query(signature, stamp, nonce string) url.Values {
	return url.Values{"signature": {signature}, "timestamp": {stamp}, "nonce": {nonce}}
}

func TestOfficialSignatures(t *testing.T) {
	t.Parallel()
	keys := officialKeys()
	for _, q := range []url.Values{
		query("f464b24fc39322e44b38aa78f5edd27bd1441696", "1714036504", "1514711492"),
		query("899cf89e464efb63f54ddac96b0a0a235f53aa78", "1714037059", "486452656"),
		query("6c5c811b55cc85e0e1b54100749188c20beb3f5d", "1714112445", "415670741"),
	} {
		if err := keys.VerifyQuery(q); err != nil {
			t.Errorf("%v: %v", q, err)
		}
		q.Set("nonce", "1")
		if err := keys.VerifyQuery(q); !errors.Is(err, ErrSignature) {
			t.Errorf("another nonce: %v", err)
		}
	}
	if err := (Keys{}).VerifyQuery(query((Keys{}).Sign("1", "2"), "1", "2")); !errors.Is(err, ErrSignature) {
		t.Errorf("without a token: %v", err)
	}
}

func TestOfficialDecryption(t *testing.T) {
	t.Parallel()
	q := query("6c5c811b55cc85e0e1b54100749188c20beb3f5d", "1714112445", "415670741")
	q.Set("msg_signature", "046e02f8204d34f8ba5fa3b1db94908f3df2e9b3")
	m, err := officialKeys().Open(q, []byte(`{"ToUserName":"gh_97417a04a28d","Encrypt":"`+encrypted1+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Body) != message1 || m.Format != JSON || !m.Encrypted {
		t.Errorf("%+v %s", m, m.Body)
	}
}

func TestOfficialReply(t *testing.T) {
	t.Parallel()
	keys := officialKeys()
	got, err := keys.encrypt([]byte(`{"demo_resp":"good luck"}`), []byte("707722b803182950"))
	if err != nil || got != encrypted2 {
		t.Errorf("%s %v", got, err)
	}
	if got := keys.Sign("1713424427", "415670741", encrypted2); got != "1b9339964ed2e271e7c7b6ff2b0ef902fc94dea1" {
		t.Error(got)
	}
}

// TestOwnVector has a key that is not zero, and bits in its last character that count for nothing.
func TestOwnVector(t *testing.T) {
	t.Parallel()
	keys := ownKeys()
	if err := keys.Validate(); err != nil {
		t.Error(err)
	}
	got, err := keys.encrypt([]byte(ownMessage), []byte("0123456789abcdef"))
	if err != nil || got != ownEncrypted {
		t.Errorf("%s %v", got, err)
	}
	q := url.Values{"timestamp": {"1714112445"}, "nonce": {"1372623149"}, "msg_signature": {"efe4418c7567a5e5161bd4b3d18f558cd3c227e0"}}
	m, err := keys.Open(q, []byte("<xml><ToUserName>gh_7f083739789a</ToUserName><Encrypt><![CDATA["+ownEncrypted+"]]></Encrypt></xml>"))
	if err != nil || string(m.Body) != ownMessage || m.Format != XML {
		t.Errorf("%v %s", err, m.Body)
	}
}

// TestPadding: 1 to 32 bytes are valid, whatever the length of the message is; 0 and 33 are not.
func TestPadding(t *testing.T) {
	t.Parallel()
	keys := ownKeys()
	for n := range 70 {
		message := bytes.Repeat([]byte("x"), n)
		text, err := keys.Encrypt(message)
		if err != nil {
			t.Fatal(err)
		}
		got, err := keys.Decrypt(text)
		if err != nil || !bytes.Equal(got, message) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for pad, want := range map[int]error{0: ErrDecrypt, 1: nil, 16: nil, 32: nil, 33: ErrDecrypt, 255: ErrDecrypt} {
		plain := padded(keys, pad)
		if _, err := keys.unwrap(plain); !errors.Is(err, want) {
			t.Errorf("padding of %d: %v", pad, err)
		}
	}
	spoilt := padded(keys, 8)
	spoilt[len(spoilt)-3]++
	if _, err := keys.unwrap(spoilt); !errors.Is(err, ErrDecrypt) {
		t.Errorf("unequal bytes of padding: %v", err)
	}
}

// padded returns a message as it is before its encryption, with a padding that may be wrong.
func padded(keys Keys, pad int) []byte {
	plain := append(bytes.Repeat([]byte("r"), randomBytes), 0, 0, 0, 2)
	plain = append(append(plain, "{}"...), keys.App...)
	for range max(pad, 1) {
		plain = append(plain, byte(pad)) //nolint:gosec // at most 33
	}
	return plain
}

func TestDecryptRefuses(t *testing.T) {
	t.Parallel()
	keys := ownKeys()
	raw, err := base64.StdEncoding.DecodeString(ownEncrypted)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys Keys
		text string
		want error
	}{
		"truncated":       {keys, base64.StdEncoding.EncodeToString(raw[:len(raw)-16]), ErrDecrypt},
		"half a block":    {keys, base64.StdEncoding.EncodeToString(raw[:len(raw)-5]), ErrDecrypt},
		"empty":           {keys, "", ErrDecrypt},
		"one block":       {keys, base64.StdEncoding.EncodeToString(raw[:16]), ErrDecrypt},
		"not base64":      {keys, "%%%", ErrDecrypt},
		"foreign app":     {Keys{App: "wxfedcba9876543210", Token: "t", AESKey: ownAESKey}, ownEncrypted, ErrApp},
		"no app":          {Keys{Token: "t", AESKey: ownAESKey}, ownEncrypted, ErrApp},
		"other key":       {Keys{App: keys.App, Token: "t", AESKey: strings.Repeat("B", keyLength)}, ownEncrypted, ErrDecrypt},
		"no key":          {Keys{App: keys.App, Token: "t"}, ownEncrypted, ErrDecrypt},
		"wrong length":    {keys, encryptRaw(t, keys, 1<<31), ErrDecrypt},
		"length too long": {keys, encryptRaw(t, keys, 500), ErrDecrypt},
	} {
		if _, err := c.keys.Decrypt(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// encryptRaw encrypts a message whose length field is wrong.
func encryptRaw(t *testing.T, keys Keys, length uint32) string {
	t.Helper()
	text, err := keys.encrypt([]byte("{}"), append([]byte("0123456789abcdef"), byte(length>>24), byte(length>>16), byte(length>>8), byte(length))) //nolint:gosec // its bytes
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	keys, now := ownKeys(), time.Now()
	plain := Keys{App: keys.App, Token: keys.Token}
	q, body, err := keys.Seal([]byte(ownMessage), "gh_1", now)
	if err != nil {
		t.Fatal(err)
	}
	plainQuery, plainBody, err := plain.Seal([]byte(ownMessage), "gh_1", now)
	if err != nil {
		t.Fatal(err)
	}
	other := Keys{App: keys.App, Token: "another", AESKey: keys.AESKey}
	foreign := Keys{App: "wxfedcba9876543210", Token: keys.Token, AESKey: keys.AESKey}
	for name, c := range map[string]struct {
		keys  Keys
		query url.Values
		body  []byte
		want  error
	}{
		"all right":              {keys, q, body, nil},
		"plain":                  {plain, plainQuery, plainBody, nil},
		"another token":          {other, q, body, ErrSignature},
		"another body":           {keys, q, bytes.Replace(body, []byte("CDATA["), []byte("CDATA[AAAA"), 1), ErrSignature},
		"no signature":           {keys, url.Values{}, body, ErrSignature},
		"plain, no signature":    {plain, url.Values{}, plainBody, ErrSignature},
		"foreign app":            {foreign, q, body, ErrApp},
		"plain, where safe":      {keys, plainQuery, plainBody, ErrPlain},
		"encrypted, where plain": {plain, q, body, ErrDecrypt},
		"neither XML nor JSON":   {keys, q, []byte("Encrypt=1"), ErrFormat},
		"empty":                  {keys, q, nil, ErrFormat},
	} {
		_, err := c.keys.Open(c.query, c.body)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && (strings.Contains(err.Error(), keys.Token) || strings.Contains(err.Error(), "gh_")) {
			t.Errorf("%s: the error quotes: %v", name, err)
		}
	}
}

func TestCheckAge(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_714_112_445, 0)
	for stamp, want := range map[string]error{
		"1714112445": nil, "1714108846": nil, "1714116044": nil, // one hour, less a second
		"1714108844": ErrAge, "1714116046": ErrAge, "": ErrAge, "x": ErrAge, "-9223372036854775808": ErrAge, "99999999999999999999": ErrAge,
	} {
		if err := CheckAge(url.Values{"timestamp": {stamp}}, now, DefaultMaxAge); !errors.Is(err, want) {
			t.Errorf("%q: %v", stamp, err)
		}
	}
}

func TestReply(t *testing.T) {
	t.Parallel()
	keys, now := ownKeys(), time.Unix(1_714_112_445, 0)
	for _, empty := range []string{"", " \n", Success} {
		body, contentType, err := keys.Reply(Message{Format: XML, Encrypted: true}, []byte(empty), now)
		if err != nil || string(body) != Success || !strings.HasPrefix(contentType, "text/plain") {
			t.Errorf("%q: %s %s %v", empty, body, contentType, err)
		}
	}
	for _, f := range []Format{XML, JSON} {
		reply := map[Format]string{XML: "<xml><Content>你好</Content></xml>", JSON: `{"Content":"你好"}`}[f]
		body, contentType, err := keys.Reply(Message{Format: f}, []byte(reply), now)
		if err != nil || string(body) != reply || contentType != f.ContentType() {
			t.Errorf("plain %s: %s %s %v", f, body, contentType, err)
		}
		body, contentType, err = keys.Reply(Message{Format: f, Encrypted: true}, []byte(reply), now)
		if err != nil || contentType != f.ContentType() {
			t.Fatal(contentType, err)
		}
		root, err := parseNode(f, body)
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		text := root.field("Encrypt")
		if root.field("TimeStamp") != "1714112445" || root.field("MsgSignature") != keys.Sign("1714112445", root.field("Nonce"), text) {
			t.Errorf("%s", body)
		}
		if got, err := keys.Decrypt(text); err != nil || string(got) != reply {
			t.Errorf("%s %v", got, err)
		}
	}
}

func TestKeysValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		keys Keys
		want string
	}{
		{ownKeys(), ""},
		{Keys{App: "wx1", Token: "abc"}, ""},
		{Keys{}, "app: required: the app id that pushes are for\ntoken: required: the Token of the message push in WeChat's console"},
		{Keys{App: "wx1", Token: "a b"}, "token: not a Token of WeChat's console: letters and digits, at most 128"},
		{Keys{App: "wx1", Token: "abc", AESKey: "tooshort"}, "aes_key: has 8 characters; an EncodingAESKey has 43"},
		{Keys{App: "wx1", Token: "abc", AESKey: strings.Repeat("!", 43)}, "aes_key: is not an EncodingAESKey: 43 letters and digits"},
	} {
		got := ""
		if err := c.keys.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.keys, got, c.want)
		}
	}
}

// TestKeysDoNotPrint: no format shows a secret.
func TestKeysDoNotPrint(t *testing.T) {
	t.Parallel()
	keys := ownKeys()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{keys, &keys, []Keys{keys}} {
			if text := fmt.Sprintf(format, v); strings.Contains(text, keys.Token) || strings.Contains(text, keys.AESKey) {
				t.Errorf("%s of %T: %s", format, v, text)
			}
		}
	}
}
