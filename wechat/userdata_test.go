package wechat_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wxcourier/wxcourier/wechat"
)

// The sample that WeChat publishes with its page about encrypted data.
const (
	sampleApp  = "wx4f4bc4dec97d474b"
	sampleKey  = "tiihtNczf5v6AKRyjwEUhQ=="
	sampleIV   = "r7BXXKkLb8qrSNn05n0qiA=="
	sampleData = "CiyLU1Aw2KjvrjMdj8YKliAjtP4gsMZMQmRzooG2xrDcvSnxIMXFufNstNGTyaGS9uT5geRa0W4oTOb1WT7fJlAC+oNPdbB+" +
		"3hVbJSRgv+4lGOETKUQz6OYStslQ142dNCuabNPGBzlooOmB231qMM85d2/fV6ChevvXvQP8Hkue1poOFtnEtpyxVLW1zAo6" +
		"/1Xx1COxFvrc2d7UL/lmHInNlxuacJXwu0fjpXfz/YqYzBIBzD6WUfTIF9GRHpOn/Hz7saL8xz+W//FRAUid1OksQaQx4CMs" +
		"8LOddcQhULW4ucetDf96JcR3g0gfRK4PC7E/r7Z6xNrXd2UIeorGj5Ef7b1pJAYB6Y5anaHqZ9J6nKEBvB4DnNLIVWSgARns" +
		"/8wR2SiRS7MNACwTyrGvt9ts8p12PKFdlqYTopNHR1Vf7XjfhQlVsAJdNiKdYmYVoKlaRv85IfVunYzO0IKXsyl7JCUjCpoG" +
		"20f0a04COwfneQAGGwd5oa+T8yO5hzuyDb/XcxxmK01EpqOyuxINew=="
)

func TestDecryptUserData(t *testing.T) {
	urlSafe := strings.NewReplacer("+", "-", "/", "_", "=", "")
	for name, in := range map[string][3]string{
		"as published":         {sampleKey, sampleData, sampleIV},
		"URL alphabet":         {urlSafe.Replace(sampleKey), urlSafe.Replace(sampleData), urlSafe.Replace(sampleIV)},
		"no padding of iv":     {sampleKey, sampleData, strings.TrimRight(sampleIV, "=")},
		"URL alphabet, padded": {sampleKey, strings.NewReplacer("+", "-", "/", "_").Replace(sampleData), sampleIV},
	} {
		data, err := wechat.DecryptUserData(wechat.Secret(in[0]), in[1], in[2], sampleApp)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var v struct{ OpenID, NickName, City string }
		if err := data.Unmarshal(&v); err != nil || v.OpenID != "oGZUI0egBJY1zhBYw2KhdUfwVJJE" || v.NickName != "Band" || v.City != "Guangzhou" {
			t.Errorf("%s: %+v %v", name, v, err)
		}
		if data.AppID != sampleApp || !data.Time.Equal(time.Unix(1477314187, 0)) {
			t.Errorf("%s: watermark %s %v", name, data.AppID, data.Time)
		}
		if _, err := data.Phone(); err == nil {
			t.Errorf("%s: the data of a person is a phone number", name)
		}
		var wrong struct{ OpenID int }
		if err := data.Unmarshal(&wrong); err == nil || strings.Contains(err.Error(), "OpenID") {
			t.Errorf("%s: another type: %v", name, err)
		}
	}
}

// encrypted returns a text encrypted with the sample's key and iv, after the given padding bytes.
func encrypted(t testing.TB, text string, padding ...byte) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(sampleKey)
	if err != nil {
		t.Fatal(err)
	}
	iv, err := base64.StdEncoding.DecodeString(sampleIV)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	plain := append([]byte(text), padding...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	return base64.StdEncoding.EncodeToString(plain)
}

// filled returns padding of the given value that ends a text at a block.
func filled(text string, value byte) []byte {
	n := aes.BlockSize - len(text)%aes.BlockSize
	return []byte(strings.Repeat(string(rune(value)), n))
}

func TestDecryptPhone(t *testing.T) {
	const text = `{"phoneNumber":"+85212345678","purePhoneNumber":"12345678","countryCode":"852","watermark":{"appid":"` + sampleApp + `","timestamp":1700000000}}`
	n := aes.BlockSize - len(text)%aes.BlockSize
	data, err := wechat.DecryptUserData(sampleKey, encrypted(t, text, filled(text, byte(n))...), sampleIV, sampleApp)
	if err != nil {
		t.Fatal(err)
	}
	phone, err := data.Phone()
	if err != nil || phone.Number.Reveal() != "+85212345678" || phone.PureNumber.Reveal() != "12345678" || phone.CountryCode != "852" || phone.Time.Unix() != 1700000000 {
		t.Errorf("%+v %v", phone, err)
	}
}

func TestDecryptMalformedUserData(t *testing.T) {
	const good = `{"openId":"oPersonInTheData","watermark":{"timestamp":1,"appid":"` + sampleApp + `"}}`
	pad := func(text string) string {
		return encrypted(t, text, filled(text, byte(aes.BlockSize-len(text)%aes.BlockSize))...)
	}
	cut, err := base64.StdEncoding.DecodeString(sampleData)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	tests := []struct {
		name, key, data, iv, app string
		is                       error  // nil: says which text is malformed
		says                     string // part of the error
	}{
		{"key not base64", "tiih*", sampleData, sampleIV, sampleApp, nil, "session key"},
		{"key empty", "", sampleData, sampleIV, sampleApp, nil, "session key: 0 bytes"},
		{"key of 32 bytes", b64(make([]byte, 32)), sampleData, sampleIV, sampleApp, nil, "session key: 32 bytes"},
		{"key of another session", b64(make([]byte, 16)), sampleData, sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"iv not base64", sampleKey, sampleData, "汉字", sampleApp, nil, "iv"},
		{"iv too short", sampleKey, sampleData, b64(make([]byte, 12)), sampleApp, nil, "iv: 12 bytes"},
		{"data not base64", sampleKey, "CiyL U1Aw", sampleIV, sampleApp, nil, "encryptedData"},
		{"plus that became a space", sampleKey, strings.ReplaceAll(sampleData, "+", " "), sampleIV, sampleApp, nil, "encryptedData: not base64"},
		{"too much padding", sampleKey, sampleData + "=", sampleIV, sampleApp, nil, "encryptedData: not base64"},
		{"line break", sampleKey, sampleData[:64] + "\n" + sampleData[64:], sampleIV, sampleApp, nil, "encryptedData: not base64"},
		{"data empty", sampleKey, "", sampleIV, sampleApp, nil, "encryptedData: 0 bytes"},
		{"data not whole blocks", sampleKey, b64(cut[:len(cut)-1]), sampleIV, sampleApp, nil, "encryptedData"},
		{"data cut by a block", sampleKey, b64(cut[:len(cut)-16]), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"padding 0", sampleKey, encrypted(t, good, filled(good, 0)...), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"padding 33", sampleKey, encrypted(t, good, filled(good, 33)...), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"padding 17", sampleKey, encrypted(t, good, append(filled(good, 17), []byte(strings.Repeat("\x11", 16))...)...), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"padding of different bytes", sampleKey, encrypted(t, good, append(make([]byte, 15-len(good)%16), byte(16-len(good)%16))...), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"only padding", sampleKey, encrypted(t, "", filled("", 16)...), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"not JSON", sampleKey, pad("oPersonInTheData"), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"not an object", sampleKey, pad("null"), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"no watermark", sampleKey, pad(`{"openId":"oPersonInTheData"}`), sampleIV, sampleApp, wechat.ErrUserData, ""},
		{"foreign app", sampleKey, pad(good), sampleIV, "wxffffffffffffffff", wechat.ErrUserDataApp, ""},
		{"no app", sampleKey, pad(strings.Replace(good, sampleApp, "", 1)), sampleIV, "", wechat.ErrUserDataApp, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			data, err := wechat.DecryptUserData(wechat.Secret(tt.key), tt.data, tt.iv, tt.app)
			switch {
			case err == nil:
				t.Fatalf("decrypted: %+v", data)
			case tt.is != nil && err != tt.is: //nolint:errorlint // the same text for all causes
				t.Errorf("%v, want %v", err, tt.is)
			case tt.is == nil && (errors.Is(err, wechat.ErrUserData) || !strings.Contains(err.Error(), tt.says)):
				t.Errorf("%v, want an error about %q", err, tt.says)
			case data != wechat.UserData{}:
				t.Errorf("data with an error: %+v", data)
			}
		})
	}
}

func FuzzDecryptUserData(f *testing.F) {
	f.Add(sampleKey, sampleData, sampleIV, sampleApp)
	f.Add(sampleKey, sampleData[:43]+"=", sampleIV, sampleApp)
	f.Add("", "", "", "")
	f.Add(sampleKey, encrypted(f, `{"watermark":{}}`, filled("", 16)...), sampleIV, "")
	f.Fuzz(func(t *testing.T, key, data, iv, app string) {
		got, err := wechat.DecryptUserData(wechat.Secret(key), data, iv, app)
		if err == nil && (got.AppID != app || app == "" || got.JSON == "") {
			t.Errorf("%+v", got)
		}
		if err != nil && len(data) > 8 && strings.Contains(err.Error(), data) {
			t.Errorf("the data is in: %v", err)
		}
	})
}
