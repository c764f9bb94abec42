package wechat

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Session is the session of a person who logged in to a mini program.
type Session struct {
	OpenID  Secret // the person, in this app
	UnionID Secret // the person, in all apps of the account; "" unless the app belongs to an open platform account
	// Key signs and encrypts what the mini program gets from WeChat about the person, see
	// [DecryptUserData]. It must not leave the server.
	Key Secret
}

// Credential returns the app's credential; ok is false for an app that has none.
func (t *Tokens) Credential(app string) (cred Credential, ok bool) { return t.credentials(app) }

// credential returns the app's credential with a secret. The error is a *TokenError of
// ErrNoCredentials.
func (c *Client) credential(app string) (Credential, error) {
	source, ok := c.tokens.(interface {
		Credential(app string) (Credential, bool)
	})
	var cred Credential
	if ok {
		cred, ok = source.Credential(app)
	}
	if !ok || cred.Secret == "" {
		return Credential{}, &TokenError{App: app, Err: ErrNoCredentials}
	}
	return cred, nil
}

// Code2Session exchanges the code of wx.login for the session of the person who logged in. A code
// is valid once and for five minutes: after an error for which [Written] is true, the mini program
// must log in again. WeChat allows 100 logins of a person in a minute.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-login/api_code2session.html
//
// The call has the app's secret and no token. The credential comes from the token source, if it has a
// method Credential as [Tokens] does. A *TokenError of [ErrNoCredentials] means that it has none, or
// one without a secret.
func (c *Client) Code2Session(ctx context.Context, app, code string) (Session, error) {
	cred, err := c.credential(app)
	if err != nil {
		return Session{}, err
	}
	out := outgoingRequest{
		endpoint: EndpointSession, method: http.MethodGet, deadline: time.Now().Add(c.attemptTimeout),
		sensitive: sensitiveValues{secrets: []Secret{cred.Secret, Secret(code)}},
	}
	if c.base.err != nil {
		return Session{}, out.prepareError(c.base.err)
	}
	out.url = c.base.endpoint(EndpointSession, url.Values{
		"appid": {app}, "secret": {cred.Secret.Reveal()}, "js_code": {code}, "grant_type": {"authorization_code"},
	}.Encode())
	rep, err := c.exchanger.exchange(ctx, out)
	if err != nil {
		return Session{}, err
	}
	var v struct {
		status
		SessionKey text `json:"session_key"`
		OpenID     text `json:"openid"`
		UnionID    text `json:"unionid"`
	}
	if err := rep.decode(&v, &v.status, out.sensitive); err != nil {
		return Session{}, err
	}
	if v.SessionKey == "" || v.OpenID == "" {
		return Session{}, rep.answerError("no session_key or no openid in the answer")
	}
	return Session{OpenID: Secret(v.OpenID), UnionID: Secret(v.UnionID), Key: Secret(v.SessionKey)}, nil
}

// Phone is the phone number that a person confirmed to a mini program.
type Phone struct {
	Number      Secret    // with the country code, if it is not a Chinese number
	PureNumber  Secret    // without the country code
	CountryCode string    // such as "86"
	Time        time.Time // when WeChat answered, to the second
}

// watermark is WeChat's mark in personal data: the app that it is for, and the time of the answer.
type watermark struct {
	Timestamp number `json:"timestamp"`
	AppID     text   `json:"appid"`
}

type phoneJSON struct {
	Number      text      `json:"phoneNumber"`
	PureNumber  text      `json:"purePhoneNumber"`
	CountryCode text      `json:"countryCode"`
	Watermark   watermark `json:"watermark"`
}

func (p phoneJSON) phone() Phone {
	return Phone{
		Number: Secret(p.Number), PureNumber: Secret(p.PureNumber), CountryCode: string(p.CountryCode),
		Time: time.Unix(p.Watermark.Timestamp.value, 0),
	}
}

// PhoneNumber exchanges the code of a phone number button for the number (getPhoneNumber). The code
// is not the one of wx.login. It is valid once and for five minutes: after an error for which
// [Written] is true, the person must press the button again.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/user-info/phone-number/api_getphonenumber.html
func (c *Client) PhoneNumber(ctx context.Context, app, code string) (Phone, error) {
	return query(ctx, c, app, EndpointPhone, map[string]string{"code": code}, func(rep reply, sensitive sensitiveValues) (Phone, error) {
		var v struct {
			status
			Info phoneJSON `json:"phone_info"`
		}
		if err := rep.decode(&v, &v.status, sensitive); err != nil {
			return Phone{}, err
		}
		switch {
		case v.Info.Number == "":
			return Phone{}, rep.answerError("no phone number in the answer")
		case v.Info.Watermark.AppID != "" && string(v.Info.Watermark.AppID) != app:
			return Phone{}, rep.answerError("the phone number is for another app")
		}
		return v.Info.phone(), nil
	})
}

// UserData is what a mini program got from WeChat about a person, decrypted.
type UserData struct {
	AppID string    // of the watermark: the app that asked for the data
	Time  time.Time // of the watermark: when WeChat encrypted the data, to the second
	JSON  Secret    // the data itself: one JSON object, with fields by the kind of the data
}

// Unmarshal decodes the data into v. Its error says nothing about the data.
func (d UserData) Unmarshal(v any) error {
	if err := json.Unmarshal([]byte(d.JSON.Reveal()), v); err != nil {
		return errors.New("wechat: the user data has other fields or types than expected")
	}
	return nil
}

// Phone returns the data as a phone number, which an older phone number button gives to the mini
// program in encrypted form.
func (d UserData) Phone() (Phone, error) {
	var v phoneJSON
	if err := d.Unmarshal(&v); err != nil {
		return Phone{}, err
	}
	if v.Number == "" {
		return Phone{}, errors.New("wechat: the user data is not a phone number")
	}
	return v.phone(), nil
}

var (
	// ErrUserData means that [DecryptUserData] could not decrypt the data. Usually the session key
	// is not the one that encrypted it, because the person has logged in again since then. The
	// error does not say which step failed: that would help to guess the data.
	ErrUserData = errors.New("wechat: the user data cannot be decrypted with this session key and iv")
	// ErrUserDataApp means that the data was encrypted for another app.
	ErrUserDataApp = errors.New("wechat: the user data is for another app")
)

// DecryptUserData decrypts the encryptedData that a mini program got from WeChat together with iv,
// with the key of the person's session ([Client.Code2Session]), and checks that the data is for
// the app (AES-128-CBC, PKCS#7, watermark):
// https://developers.weixin.qq.com/miniprogram/dev/framework/open-ability/signature.html
//
// All three texts are base64, in the standard or the URL alphabet, with or without padding. The
// error is [ErrUserData], [ErrUserDataApp] or says which of the texts is malformed; it contains
// nothing of them. The caller decides how old [UserData.Time] may be.
func DecryptUserData(sessionKey Secret, encryptedData, iv, appID string) (UserData, error) {
	key, err := decodeBase64("session key", sessionKey.Reveal())
	if err != nil {
		return UserData{}, err
	}
	vector, err := decodeBase64("iv", iv)
	if err != nil {
		return UserData{}, err
	}
	data, err := decodeBase64("encryptedData", encryptedData)
	switch {
	case err != nil:
		return UserData{}, err
	case len(key) != 16:
		return UserData{}, fmt.Errorf("wechat: session key: %d bytes, not 16", len(key))
	case len(vector) != aes.BlockSize:
		return UserData{}, fmt.Errorf("wechat: iv: %d bytes, not 16", len(vector))
	case len(data) == 0 || len(data)%aes.BlockSize != 0:
		return UserData{}, fmt.Errorf("wechat: encryptedData: %d bytes, not a multiple of 16", len(data))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return UserData{}, ErrUserData
	}
	cipher.NewCBCDecrypter(block, vector).CryptBlocks(data, data)
	text, padded := unpad(data)
	var v struct {
		Watermark *watermark `json:"watermark"`
	}
	// Also where the padding is wrong: the time that this takes must not tell.
	err = json.Unmarshal(text, &v)
	switch {
	case !padded || err != nil || v.Watermark == nil:
		return UserData{}, ErrUserData
	case appID == "" || string(v.Watermark.AppID) != appID:
		return UserData{}, ErrUserDataApp
	}
	return UserData{AppID: appID, Time: time.Unix(v.Watermark.Timestamp.value, 0), JSON: Secret(text)}, nil
}

// decodeBase64 decodes a text in either alphabet. A "+" that became a space, as in a form that was
// not escaped, is an error.
func decodeBase64(name, text string) ([]byte, error) {
	plain := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	raw, err := base64.RawStdEncoding.DecodeString(plain)
	if err != nil || len(text)-len(plain) > 2 || strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("wechat: %s: not base64", name)
	}
	return raw, nil
}

// unpad returns the text without its PKCS#7 padding, or the whole text and false where the padding
// is wrong, in a time that does not depend on the padding.
func unpad(text []byte) ([]byte, bool) {
	last := text[len(text)-aes.BlockSize:]
	n := int(last[aes.BlockSize-1])
	valid := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i := range aes.BlockSize {
		inPadding := subtle.ConstantTimeLessOrEq(aes.BlockSize-i, n)
		valid &= subtle.ConstantTimeSelect(inPadding, subtle.ConstantTimeByteEq(last[i], byte(n)), 1) //nolint:gosec // n is a byte
	}
	return text[:len(text)-subtle.ConstantTimeSelect(valid, n, 0)], valid == 1
}

// query calls an endpoint that answers a question in JSON, with a token. Its errors are those of
// [Client.Call].
func query[T any](ctx context.Context, c *Client, app string, ep Endpoint, question any, decode func(reply, sensitiveValues) (T, error)) (T, error) {
	var (
		answer T
		body   bytes.Buffer
	)
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(question); err != nil {
		return answer, &TransportError{Endpoint: ep, Op: "prepare", Err: err}
	}
	err := c.withToken(ctx, app, ep, func(ctx context.Context, deadline time.Time, tokens ...Token) error {
		rep, sensitive, err := c.send(ctx, deadline, app, Request{Path: ep, Body: bytes.TrimSpace(body.Bytes())}, tokens)
		if err != nil {
			return err
		}
		answer, err = decode(rep, sensitive)
		return err
	})
	return answer, err
}
