package sandbox

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// Security is the API security mode (API 安全) of an app: what its owner has set in WeChat's console. The
// endpoints that support it then accept only requests that are encrypted with AES256_GCM and signed with
// RSAwithSHA256, and answer so. Source:
// https://developers.weixin.qq.com/miniprogram/dev/OpenApiDoc/getting_started/api_signature.html
type Security struct {
	SymmetricSN  string
	SymmetricKey []byte         // 32 bytes
	PublicKey    *rsa.PublicKey // of the app
	// PlatformKey signs the answers; PlatformSN is the number of its certificate.
	PlatformKey *rsa.PrivateKey
	PlatformSN  string
	// OldPlatformKey, when set, signs them too, as while WeChat replaces its certificate.
	OldPlatformKey *rsa.PrivateKey
	OldPlatformSN  string
}

// securedPaths are the endpoints that support the API security mode, as far as the sandbox has them.
func securedPaths() []string {
	return []string{
		"/wxa/msg_sec_check", "/wxa/media_check_async", "/wxa/business/getuserphonenumber", "/wxa/getwxacodeunlimit",
		"/wxa/getwxacode", "/cgi-bin/wxaapp/createwxaqrcode", "/cgi-bin/openapi/quota/get", "/cgi-bin/clear_quota",
		"/cgi-bin/openapi/rid/get",
	}
}

// maxSignatureAge is how old the timestamp of a request may be, in seconds. WeChat does not publish its
// own.
const maxSignatureAge = 300

// secured serves a request to an endpoint that supports the API security mode, if the app of its token
// has it, and reports whether it did.
func (s *Server) secured(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
	if len(s.opts.Security) == 0 || r.Method != http.MethodPost || !slices.Contains(securedPaths(), r.URL.Path) {
		return false
	}
	s.mu.Lock()
	issued := s.state.tokens[r.URL.Query().Get("access_token")]
	s.mu.Unlock()
	if issued == nil {
		return false // the refusal of a token is not signed
	}
	sec, has := s.opts.Security[issued.app]
	if !has {
		return false
	}
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	c := securedCall{Security: sec, app: issued.app, address: scheme + r.Host + r.URL.Path, time: r.Header.Get("Wechatmp-TimeStamp"), now: s.opts.Clock().Unix()}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	plain, code := c.open(r.Header, body)
	if code != 0 {
		_, _ = io.WriteString(w, `{"errcode":`+strconv.Itoa(code)+`,"errmsg":"the API security mode refuses the request"}`)
		return true
	}
	inner := r.Clone(r.Context())
	inner.Body, inner.ContentLength = io.NopCloser(bytes.NewReader(plain)), int64(len(plain))
	answer := &keptAnswer{header: http.Header{}, status: http.StatusOK}
	next.ServeHTTP(answer, inner)
	maps.Copy(w.Header(), answer.header)
	w.Header().Del("Content-Length")
	sealed, err := c.seal(w.Header(), answer.body.Bytes())
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(answer.status)
	_, _ = w.Write(sealed)
	return true
}

// keptAnswer keeps an answer in memory.
type keptAnswer struct {
	header http.Header
	body   bytes.Buffer
	status int
}

func (k *keptAnswer) Header() http.Header         { return k.header }
func (k *keptAnswer) WriteHeader(status int)      { k.status = status }
func (k *keptAnswer) Write(b []byte) (int, error) { return k.body.Write(b) }

// securedCall is one call in the API security mode.
type securedCall struct {
	Security
	app, address, time string
	now                int64
}

func (c *securedCall) hash(time string, body []byte) []byte {
	sum := sha256.Sum256(slices.Concat([]byte(c.address+"\n"+c.app+"\n"+time+"\n"), body))
	return sum[:]
}

func (c *securedCall) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(c.SymmetricKey)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

type sealed struct {
	IV   []byte `json:"iv"`
	Data []byte `json:"data"`
	Tag  []byte `json:"authtag"`
}

// open verifies and decrypts a request. The code is WeChat's, 0 for none.
func (c *securedCall) open(h http.Header, body []byte) (plain []byte, code int) {
	sent, err := strconv.ParseInt(c.time, 10, 64)
	signature, signErr := base64.StdEncoding.DecodeString(h.Get("Wechatmp-Signature"))
	switch {
	case h.Get("Wechatmp-Serial") == "":
		return nil, 40230
	case c.time == "" || err != nil:
		return nil, 40231
	case h.Get("Wechatmp-Signature") == "":
		return nil, 40232
	case h.Get("Wechatmp-Appid") == "":
		return nil, 40233
	case h.Get("Wechatmp-Appid") != c.app:
		return nil, 40237
	case c.now-sent > maxSignatureAge || sent-c.now > maxSignatureAge:
		return nil, 40240
	case signErr != nil || rsa.VerifyPSS(c.PublicKey, crypto.SHA256, c.hash(c.time, body), signature, &rsa.PSSOptions{SaltLength: 32}) != nil:
		return nil, 40234
	}
	plain, err = c.decrypt(body)
	if err != nil {
		return nil, 40235
	}
	return plain, 0
}

func (c *securedCall) decrypt(body []byte) ([]byte, error) {
	var m sealed
	gcm, err := c.gcm()
	if err := errors.Join(err, json.Unmarshal(body, &m)); err != nil {
		return nil, err
	}
	if len(m.IV) != gcm.NonceSize() {
		return nil, errors.New("the iv has another size")
	}
	plain, err := gcm.Open(nil, m.IV, slices.Concat(m.Data, m.Tag), []byte(c.address+"|"+c.app+"|"+c.time+"|"+c.SymmetricSN))
	if err != nil {
		return nil, err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(plain, &members); err != nil {
		return nil, err
	}
	if string(members["_appid"]) != `"`+c.app+`"` || string(members["_timestamp"]) != c.time || len(members["_n"]) < 18 {
		return nil, errors.New("the added members are wrong")
	}
	for _, name := range []string{"_n", "_appid", "_timestamp"} {
		delete(members, name)
	}
	return json.Marshal(members)
}

// seal encrypts an answer in JSON, and signs every answer.
func (c *securedCall) seal(h http.Header, body []byte) ([]byte, error) {
	now := strconv.FormatInt(c.now, 10)
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) == nil {
		members["_n"], members["_appid"], members["_timestamp"] = json.RawMessage(`"`+rand.Text()+`"`), json.RawMessage(`"`+c.app+`"`), json.RawMessage(now)
		plain, err := json.Marshal(members)
		if err != nil {
			return nil, err
		}
		gcm, err := c.gcm()
		if err != nil {
			return nil, err
		}
		iv := make([]byte, gcm.NonceSize())
		_, _ = rand.Read(iv) // does not fail
		data := gcm.Seal(nil, iv, plain, []byte(c.address+"|"+c.app+"|"+now+"|"+c.SymmetricSN))
		tag := len(data) - gcm.Overhead()
		if body, err = json.Marshal(sealed{iv, data[:tag], data[tag:]}); err != nil {
			return nil, err
		}
	}
	h.Set("Wechatmp-Appid", c.app)
	h.Set("Wechatmp-TimeStamp", now)
	for _, by := range []struct {
		suffix, serial string
		key            *rsa.PrivateKey
	}{{"", c.PlatformSN, c.PlatformKey}, {"-Deprecated", c.OldPlatformSN, c.OldPlatformKey}} {
		if by.key == nil {
			continue
		}
		signature, err := rsa.SignPSS(rand.Reader, by.key, crypto.SHA256, c.hash(now, body), &rsa.PSSOptions{SaltLength: 32})
		if err != nil {
			return nil, err
		}
		h.Set("Wechatmp-Serial"+by.suffix, by.serial)
		h.Set("Wechatmp-Signature"+by.suffix, base64.StdEncoding.EncodeToString(signature))
	}
	return body, nil
}
