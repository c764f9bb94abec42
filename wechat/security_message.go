package wechat

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The headers of a signed request or answer.
const (
	headerSecurityApp                 = "Wechatmp-Appid"
	headerSecurityTime                = "Wechatmp-TimeStamp"
	headerSecuritySerial              = "Wechatmp-Serial"
	headerSecuritySignature           = "Wechatmp-Signature"
	headerSecuritySerialDeprecated    = "Wechatmp-Serial-Deprecated"
	headerSecuritySignatureDeprecated = "Wechatmp-Signature-Deprecated"
)

// sealedMessage is the encrypted content of a request or an answer, in base64.
type sealedMessage struct {
	IV      string `json:"iv"`
	Data    string `json:"data"`
	AuthTag string `json:"authtag"`
}

const (
	gcmNonceSize = 12
	gcmTagSize   = 16
)

// additional returns what the encryption authenticates besides the content.
func (s *Security) additional(address, timestamp string) []byte {
	return []byte(address + "|" + s.app + "|" + timestamp + "|" + s.symmetricSN)
}

// digest returns the hash that is signed.
func (s *Security) digest(address, timestamp string, body []byte) []byte {
	sum := sha256.New()
	sum.Write([]byte(address + "\n" + s.app + "\n" + timestamp + "\n"))
	sum.Write(body)
	return sum.Sum(nil)
}

// seal encrypts and signs the body of a request, a JSON object, with the members of a query. It is
// called for each attempt: WeChat refuses a timestamp that is old (40240). address is the URL of the
// endpoint without its query.
func (s *Security) seal(address string, query url.Values, body []byte, now time.Time) (sealed []byte, header http.Header, err error) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	plain, err := s.addMembers(query, body, timestamp)
	if err != nil {
		return nil, nil, err
	}
	nonce := make([]byte, gcmNonceSize)
	_, _ = rand.Read(nonce) // does not fail
	return s.sealWith(address, timestamp, plain, nonce)
}

func (s *Security) sealWith(address, timestamp string, plain, nonce []byte) (sealed []byte, header http.Header, err error) {
	data := s.aead.Seal(nil, nonce, plain, s.additional(address, timestamp))
	data, tag := data[:len(data)-gcmTagSize], data[len(data)-gcmTagSize:]
	encode := base64.StdEncoding.EncodeToString
	if sealed, err = json.Marshal(sealedMessage{encode(nonce), encode(data), encode(tag)}); err != nil {
		return nil, nil, err
	}
	// json.Marshal writes + as it is, so that these are the bytes that WeChat verifies.
	signature, err := rsa.SignPSS(rand.Reader, s.private, crypto.SHA256, s.digest(address, timestamp, sealed), &rsa.PSSOptions{SaltLength: sha256.Size})
	if err != nil {
		return nil, nil, fmt.Errorf("sign the request: %w", err)
	}
	header = http.Header{}
	header.Set(headerSecurityApp, s.app)
	header.Set(headerSecurityTime, timestamp)
	header.Set(headerSecuritySerial, s.privateSN) // 40230 asks for it, although the page's table of the request omits it
	header.Set(headerSecuritySignature, encode(signature))
	return sealed, header, nil
}

// addMembers returns a body with the members of a query, and those that WeChat compares with the
// signature.
func (s *Security) addMembers(query url.Values, body []byte, timestamp string) ([]byte, error) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		body = []byte("{}")
	}
	if body[0] != '{' || !json.Valid(body) {
		return nil, errors.New("the body is not a JSON object; the API security mode encrypts only objects")
	}
	salt := make([]byte, 16+timeBits(timestamp))
	_, _ = rand.Read(salt)
	plain := append([]byte(`{"_n":"`), base64.RawStdEncoding.EncodeToString(salt)...)
	plain = append(append(plain, `","_appid":"`...), s.app...)
	plain = append(append(plain, `","_timestamp":`...), timestamp...)
	for name, values := range query {
		if len(values) == 0 {
			continue
		}
		member, err := json.Marshal(map[string]string{name: values[0]})
		if err != nil {
			return nil, err
		}
		plain = append(append(plain, ','), member[1:len(member)-1]...)
	}
	if rest := bytes.TrimSpace(body[1:]); rest[0] != '}' {
		plain = append(plain, ',')
	}
	return append(plain, body[1:]...), nil
}

// timeBits returns 0 to 15: the random text is to differ in length.
func timeBits(timestamp string) int { return int(timestamp[len(timestamp)-1] % 16) }

// errUnsigned means that an answer has no signature, or none that a configured certificate can verify.
var errUnsigned = errors.New("unsigned")

// maxAnswerAge is by how much the time of an answer may differ from the own clock: the signature does not
// cover the request, so that an old answer could be sent again. WeChat allows a request as much.
const maxAnswerAge = 5 * time.Minute

// open verifies and decrypts an answer that came at now. deprecated is true when only the certificate
// that WeChat is replacing could verify it. An answer without a signature gives errUnsigned.
func (s *Security) open(address string, header http.Header, body []byte, now time.Time) (plain []byte, deprecated bool, err error) {
	timestamp := header.Get(headerSecurityTime)
	if header.Get(headerSecuritySignature) == "" || timestamp == "" {
		return nil, false, errUnsigned
	}
	if app := header.Get(headerSecurityApp); app != s.app {
		return nil, false, errors.New("the signature of the answer is for another app")
	}
	if seconds, err := strconv.ParseInt(timestamp, 10, 64); err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > maxAnswerAge {
		return nil, false, errors.New("the time of the answer differs from this machine's clock by more than 5 minutes")
	}
	if deprecated, err = s.verify(address, timestamp, header, body); err != nil {
		return nil, false, err
	}
	var sealed sealedMessage
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("{")) {
		_ = json.Unmarshal(body, &sealed)
	}
	if sealed.Data == "" {
		return body, deprecated, nil // signed only: an image, or an error
	}
	if plain, err = s.decrypt(address, timestamp, sealed); err != nil {
		return nil, false, err
	}
	plain, err = s.removeMembers(plain, timestamp)
	return plain, deprecated, err
}

// verify finds the certificate of the answer by its number, and verifies the signature with it.
func (s *Security) verify(address, timestamp string, header http.Header, body []byte) (deprecated bool, err error) {
	signatures := [][2]string{
		{header.Get(headerSecuritySerial), header.Get(headerSecuritySignature)},
		{header.Get(headerSecuritySerialDeprecated), header.Get(headerSecuritySignatureDeprecated)},
	}
	for i, pair := range signatures {
		certificate := s.certificates[pair[0]]
		if certificate == nil || pair[0] == "" {
			continue
		}
		signature, err := base64.StdEncoding.DecodeString(pair[1])
		if err != nil {
			return false, errors.New("the signature of the answer is not base64")
		}
		public, _ := certificate.PublicKey.(*rsa.PublicKey)
		if rsa.VerifyPSS(public, crypto.SHA256, s.digest(address, timestamp, body), signature, nil) != nil {
			return false, errors.New("the signature of the answer is wrong")
		}
		return i == 1, nil
	}
	return false, fmt.Errorf("the answer is signed with the platform certificate %q, which is not configured (security.certificates): download it from WeChat's console", printableSerial(signatures[0][0]))
}

// printableSerial returns the number of a certificate, or "" for a text that is none.
func printableSerial(serial string) string {
	if len(serial) > 64 || strings.Trim(serial, "0123456789abcdefABCDEF") != "" {
		return ""
	}
	return serial
}

func (s *Security) decrypt(address, timestamp string, m sealedMessage) ([]byte, error) {
	failed := errors.New("the answer cannot be decrypted: the symmetric key is not that of WeChat's console, or its number is wrong")
	var parts [3][]byte
	for i, text := range []string{m.IV, m.Data, m.AuthTag} {
		part, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, failed
		}
		parts[i] = part
	}
	if len(parts[0]) != gcmNonceSize || len(parts[2]) != gcmTagSize {
		return nil, failed
	}
	plain, err := s.aead.Open(nil, parts[0], append(parts[1], parts[2]...), s.additional(address, timestamp))
	if err != nil {
		return nil, failed
	}
	return plain, nil
}

// removeMembers returns the answer as it is without the API security mode. The members that it
// removes must be those of the signature.
func (s *Security) removeMembers(plain []byte, timestamp string) ([]byte, error) {
	malformed := errors.New("the decrypted answer is no JSON object")
	dec := json.NewDecoder(bytes.NewReader(plain))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, malformed
	}
	out := []byte{'{'}
	matched := 0
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		var value json.RawMessage
		if err != nil || !ok || dec.Decode(&value) != nil {
			return nil, malformed
		}
		switch name {
		case "_n":
			continue
		case "_appid", "_timestamp":
			if want := map[string]string{"_appid": s.app, "_timestamp": timestamp}[name]; unquote(value) != want {
				return nil, fmt.Errorf("%s of the answer is not that of its signature", name)
			}
			matched++
			continue
		}
		quoted, err := json.Marshal(name)
		if err != nil {
			return nil, malformed
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, quoted...), ':'), value...)
	}
	if t, err := dec.Token(); err != nil || t != json.Delim('}') {
		return nil, malformed
	}
	if matched != 2 {
		return nil, errors.New("_appid and _timestamp are missing in the answer")
	}
	return append(out, '}'), nil
}
