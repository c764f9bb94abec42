package wechat

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

const (
	jpegBytes = "\xff\xd8\xff\xe0\x00\x10JFIF"
	pngBytes  = "\x89PNG\r\n\x1a\n\x00\x00"
)

func TestDecodeAnswer(t *testing.T) {
	tests := []struct {
		name        string
		ep          Endpoint
		contentType string
		body        string
		want        Answer
	}{
		{"msgid beyond 2^53", EndpointSubscribe, "", `{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`, Answer{MsgID: "3395159288267931652", Msg: "ok"}},
		{"msgid as string", EndpointTemplate, "", `{"errcode":0,"errmsg":"ok","msgid":"3395159288267931652"}`, Answer{MsgID: "3395159288267931652", Msg: "ok"}},
		{"msgid 0", EndpointTemplate, "", `{"errcode":0,"errmsg":"ok","msgid":0}`, Answer{Msg: "ok"}},
		{"msgid null", EndpointTemplate, "", `{"errcode":0,"errmsg":"ok","msgid":null}`, Answer{Msg: "ok"}},
		{"errcode as string", EndpointSubscribe, "", `{"errcode":"0","errmsg":"ok"}`, Answer{Msg: "ok"}},
		{"errcode absent", EndpointScheme, "", `{"openlink":"weixin://dl/business/?t=1"}`, Answer{OpenLink: "weixin://dl/business/?t=1"}},
		{"errcode absent, msgid present", EndpointTemplate, "", `{"msgid":7}`, Answer{MsgID: "7"}},
		{"errcode absent, ok", EndpointBizSubscribe, "", `{"errmsg":"ok"}`, Answer{Msg: "ok"}},
		{"errcode absent, ok with a rid", EndpointCustom, "", `{"errmsg":"ok rid: 1-2-3"}`, Answer{Msg: "ok", RID: "1-2-3"}},
		{"errcode absent, a verdict", EndpointTextCheck, "", `{"result":{"suggest":"review","label":100}}`, Answer{Suggest: "review", Label: "100"}},
		{"errmsg absent", EndpointCustom, "", `{"errcode":0}`, Answer{}},
		{"a path without a row", "/wxa/other", "", `{"errcode":0}`, Answer{}},
		{"rid on success", EndpointCustom, "", `{"errcode":0,"errmsg":"ok rid: 60a1b2c3-4d5e6f70-11223344"}`, Answer{Msg: "ok", RID: "60a1b2c3-4d5e6f70-11223344"}},
		{"byte order mark and blanks", EndpointCustom, "", "\xef\xbb\xbf \n{\"errcode\":0,\"errmsg\":\"ok\"}\n", Answer{Msg: "ok"}},
		{"JSON with Content-Type text/plain", EndpointURLLink, "text/plain", `{"errcode":0,"errmsg":"ok","url_link":"https://wxaurl.cn/a"}`, Answer{URLLink: "https://wxaurl.cn/a", Msg: "ok"}},
		{"short link", EndpointShortLink, "", `{"errcode":0,"errmsg":"ok","link":"#小程序://a/b"}`, Answer{Link: "#小程序://a/b", Msg: "ok"}},
		{"verdict, label as number", EndpointTextCheck, "", `{"errcode":0,"errmsg":"ok","result":{"suggest":"risky","label":20001},"trace_id":"t-1","detail":[]}`, Answer{Suggest: "risky", Label: "20001", TraceID: "t-1", Msg: "ok"}},
		{"verdict, label as string", EndpointTextCheck, "", `{"errcode":0,"result":{"suggest":"pass","label":"100"},"trace_id":"t-1"}`, Answer{Suggest: "pass", Label: "100", TraceID: "t-1"}},
		{"image passed", EndpointImageCheck, "", `{"errcode":0,"errmsg":"ok"}`, Answer{Suggest: "pass", Msg: "ok"}},
		{"jpeg", EndpointUnlimitedCode, "image/jpeg", jpegBytes, Answer{Image: []byte(jpegBytes), ImageType: "image/jpeg"}},
		{"PNG with Content-Type JSON", EndpointCode, "application/json", pngBytes, Answer{Image: []byte(pngBytes), ImageType: "image/png"}},
		{"PNG without Content-Type", EndpointQRCode, "", pngBytes, Answer{Image: []byte(pngBytes), ImageType: "image/png"}},
		{"another image format", EndpointQRCode, "image/webp; q=1", "RIFFxxxxWEBP", Answer{Image: []byte("RIFFxxxxWEBP"), ImageType: "image/webp"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := decodeAnswer(reply{endpoint: tt.ep, status: 200, contentType: tt.contentType, body: []byte(tt.body)}, sensitiveValues{})
			if err != nil {
				t.Fatal(err)
			}
			tt.want.Endpoint = tt.ep
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestDecodeRefusal(t *testing.T) {
	const rid = "60a1b2c3-4d5e6f70-11223344"
	tests := []struct {
		name        string
		ep          Endpoint
		contentType string
		body        string
		want        APIError
		class       Class
	}{
		{"plain", EndpointSubscribe, "", `{"errcode":43101,"errmsg":"user refuse to accept the msg rid: ` + rid + `"}`, APIError{Code: 43101, Msg: "user refuse to accept the msg", RID: rid}, ClassRefused},
		{"as string", EndpointQRCode, "", `{"errcode":"45029","errmsg":"qrcode count out of limit"}`, APIError{Code: 45029, Msg: "qrcode count out of limit"}, ClassRejected},
		{"hint", EndpointSubscribe, "", `{"errcode":40003,"errmsg":"invalid openid hint: [AbC12.vr22!]"}`, APIError{Code: 40003, Msg: "invalid openid", RID: "AbC12.vr22!"}, ClassRejected},
		{"comma before rid", EndpointSubscribe, "", `{"errcode":40001,"errmsg":"invalid credential, rid: ` + rid + `"}`, APIError{Code: 40001, Msg: "invalid credential", RID: rid}, ClassToken},
		{"only a rid", EndpointSubscribe, "", `{"errcode":-1,"errmsg":"rid: ` + rid + `"}`, APIError{Code: -1, RID: rid}, ClassBusy},
		{"JSON with Content-Type image", EndpointUnlimitedCode, "image/jpeg", `{"errcode":41030,"errmsg":"invalid page"}`, APIError{Code: 41030, Msg: "invalid page"}, ClassRejected},
		{"no errmsg", EndpointUnlimitedCode, "", `{"errcode":45009}`, APIError{Code: 45009}, ClassRateMinute},
		{"risky image", EndpointImageCheck, "", `{"errcode":87014,"errmsg":"risky content"}`, APIError{Code: 87014, Msg: "risky content"}, ClassRisky},
		{"openid redacted", EndpointSubscribe, "", `{"errcode":40003,"errmsg":"invalid openid oABCDEFGHIJKLMNOPQRSTUVWXY12 here"}`, APIError{Code: 40003, Msg: "invalid openid [redacted] here"}, ClassRejected},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeAnswer(reply{endpoint: tt.ep, status: 200, contentType: tt.contentType, body: []byte(tt.body)}, sensitiveValues{})
			var got *APIError
			if !errors.As(err, &got) {
				t.Fatalf("%v is not an APIError", err)
			}
			tt.want.Endpoint = tt.ep
			if *got != tt.want || got.Class() != tt.class {
				t.Errorf("got  %+v, %v\nwant %+v, %v", *got, got.Class(), tt.want, tt.class)
			}
		})
	}
}

func TestLongMessageIsShortened(t *testing.T) {
	body := `{"errcode":47003,"errmsg":"` + strings.Repeat("订单", maxMessageBytes) + `"}`
	_, err := decodeAnswer(reply{endpoint: EndpointSubscribe, status: 200, body: []byte(body)}, sensitiveValues{})
	var apiErr *APIError
	if !errors.As(err, &apiErr) || len(apiErr.Msg) > maxMessageBytes+len("…") || !utf8.ValidString(apiErr.Msg) {
		t.Errorf("%d bytes: %v", len(apiErr.Msg), err)
	}
}

func TestDecodeInvalidAnswer(t *testing.T) {
	tests := []struct {
		name        string
		ep          Endpoint
		status      int
		contentType string
		body        string
		want        string
	}{
		{"bad gateway", EndpointSubscribe, 502, "text/html", "<html>", "not an answer"},
		{"5xx with WeChat's shape", EndpointSubscribe, 500, "", `{"errcode":0}`, "not an answer"},
		{"redirect", EndpointSubscribe, 302, "", "", "not an answer"},
		{"5xx with an image", EndpointUnlimitedCode, 503, "image/png", pngBytes, "not an answer"},
		{"empty", EndpointSubscribe, 200, "", " ", "empty"},
		{"HTML in a 200", EndpointSubscribe, 200, "application/json", "<!DOCTYPE html>", "HTML"},
		{"HTML with Content-Type image", EndpointCode, 200, "image/png", " <html>", "HTML"},
		{"truncated", EndpointSubscribe, 200, "", `{"errcode":0,"errm`, "truncated"},
		{"two answers", EndpointSubscribe, 200, "", `{"errcode":0}{"errcode":0}`, "truncated or malformed"},
		{"errcode of another type", EndpointSubscribe, 200, "", `{"errcode":{}}`, "wrong type"},
		{"errcode not an integer", EndpointSubscribe, 200, "", `{"errcode":"none"}`, "wrong type"},
		{"errcode too large", EndpointSubscribe, 200, "", `{"errcode":99999999999999999999}`, "wrong type"},
		{"not from WeChat", EndpointSubscribe, 200, "", `{"message":"no route"}`, "no errcode"},
		{"{}", EndpointCustom, 200, "", `{}`, "no errcode"},
		{"an array", EndpointCustom, 200, "", `[]`, "neither"},
		{"text", EndpointCustom, 200, "", "ok", "neither"},
		{"errmsg without errcode", EndpointSubscribe, 200, "", `{"errmsg":"service unavailable"}`, "no errcode"},
		{"errmsg without errcode, of a template", EndpointTemplate, 200, "", `{"errmsg":"service unavailable","msgid":0}`, "no errcode"},
		{"errcode null", EndpointCustom, 200, "", `{"errcode":null,"errmsg":"service unavailable"}`, "no errcode"},
		{"errcode empty", EndpointCustom, 200, "", `{"errcode":"","errmsg":""}`, "no errcode"},
		{"a trace id for a message", EndpointCustom, 200, "", `{"trace_id":"t-1"}`, "no errcode"},
		{"a msgid that the endpoint does not give", EndpointCustom, 200, "", `{"msgid":7}`, "no errcode"},
		{"a path without a row", "/wxa/other", 200, "", `{"errmsg":"not found"}`, "no errcode"},
		{"check without a result", EndpointTextCheck, 200, "", `{"errcode":0,"errmsg":"ok","trace_id":"t-1"}`, "no result.suggest"},
		{"check with a result of another type", EndpointTextCheck, 200, "", `{"errcode":0,"errmsg":"ok","result":"pass"}`, "no result.suggest"},
		{"image check without errcode", EndpointImageCheck, 200, "", `{"errmsg":"service unavailable"}`, "no errcode"},
		{"media check without a trace id", EndpointMediaCheck, 200, "", `{"errcode":0,"errmsg":"ok"}`, "no trace_id"},
		{"no link", EndpointScheme, 200, "", `{"errcode":0,"errmsg":"ok"}`, "no openlink"},
		{"no URL link", EndpointURLLink, 200, "", `{"errcode":0,"errmsg":"ok"}`, "no url_link"},
		{"no image", EndpointUnlimitedCode, 200, "", `{"errcode":0,"errmsg":"ok"}`, "image was expected"},
		{"an image for a message", EndpointSubscribe, 200, "image/png", pngBytes, "JSON was expected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeAnswer(reply{endpoint: tt.ep, status: tt.status, contentType: tt.contentType, body: []byte(tt.body)}, sensitiveValues{})
			var got *AnswerError
			if !errors.As(err, &got) || got.Status != tt.status || !strings.Contains(got.Reason, tt.want) {
				t.Errorf("got %v, want an AnswerError of status %d with %q", err, tt.status, tt.want)
			}
			if !Written(err) {
				t.Error("Written is false although an answer came")
			}
		})
	}
}

// Version 1 of the text check returns no result: errcode 0 is its verdict. The request selects
// the version.
func TestDecodeTextCheckByVersion(t *testing.T) {
	for _, tt := range []struct {
		request, body string
		suggest       string // "": an AnswerError
	}{
		{`{"content":"x"}`, `{"errcode":0,"errmsg":"ok"}`, "pass"},
		{`{"content":"x","version":1}`, `{"errcode":0}`, "pass"},
		{`{"content":"x"}`, `{"errmsg":"ok"}`, "pass"},
		{`{"content":"x"}`, `{"errmsg":"service unavailable"}`, ""},
		{`{"content":"x","version":2,"scene":1,"openid":"o"}`, `{"errcode":0,"errmsg":"ok"}`, ""},
		{`{"content":"x","version":"2","scene":1,"openid":"o"}`, `{"errcode":0,"errmsg":"ok"}`, ""},
		{`{"content":"x","version":2}`, `{"errcode":0,"result":{"suggest":"risky","label":20001}}`, "risky"},
		{`{"content":"x"}`, `{"errcode":0,"result":{"suggest":"risky","label":20001}}`, "risky"},
	} {
		got, err := decodeAnswer(reply{endpoint: EndpointTextCheck, status: 200, body: []byte(tt.body)}, sensitiveValues{body: []byte(tt.request)})
		var answerErr *AnswerError
		if got.Suggest != tt.suggest || (tt.suggest == "") != errors.As(err, &answerErr) {
			t.Errorf("%s answered %s: %+v, %v", tt.request, tt.body, got, err)
		}
	}
}

func FuzzDecodeAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`,
		`{"errcode":"40001","errmsg":"invalid credential rid: 1-2-3"}`,
		`{"result":{"suggest":"pass","label":100},"trace_id":"x"}`,
		`{"errcode":87014,"errmsg":"risky content hint: [x]"}`,
		jpegBytes, pngBytes, "<html>", "", "{", `{"errcode":null}`,
	} {
		f.Add(uint8(0), "application/json", []byte(seed))
		f.Add(uint8(3), "image/jpeg", []byte(seed))
	}
	endpoints := []Endpoint{EndpointSubscribe, EndpointScheme, EndpointURLLink, EndpointCode, EndpointTextCheck, EndpointImageCheck, EndpointShortLink, EndpointClearQuota}
	const token = "SECRET-TOKEN-OF-THE-FUZZER"
	f.Fuzz(func(t *testing.T, ep uint8, contentType string, body []byte) {
		rep := reply{endpoint: endpoints[int(ep)%len(endpoints)], status: 200, contentType: contentType, body: body}
		answer, err := decodeAnswer(rep, sensitiveValues{secrets: []Secret{token}})
		if err == nil {
			if answer.Endpoint != rep.endpoint {
				t.Fatal("the answer has another endpoint")
			}
			if (len(answer.Image) > 0) != givesImage(rep.endpoint) {
				t.Fatal("the endpoint and the presence of an image do not match")
			}
			return
		}
		var apiErr *APIError
		var answerErr *AnswerError
		if errors.As(err, &apiErr) == errors.As(err, &answerErr) {
			t.Fatalf("%T is not exactly one of APIError and AnswerError", err)
		}
		if apiErr != nil && apiErr.Code == 0 {
			t.Fatal("an error with errcode 0")
		}
		if strings.Contains(err.Error(), token) {
			t.Fatal("the token is in the error")
		}
		_, _ = decodeQuota(rep, sensitiveValues{}) // it must not panic
	})
}
