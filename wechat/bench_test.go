package wechat

import "testing"

// BenchmarkDecodeAnswer is what an answer costs once it has been read.
func BenchmarkDecodeAnswer(b *testing.B) {
	secrets := hidden{secrets: []Secret{testToken, testSecret}, body: []byte(testBody)}
	for _, bb := range []struct {
		name     string
		endpoint Endpoint
		body     string
		fails    bool
	}{
		{"message", EndpointSubscribe, `{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`, false},
		{"link", EndpointScheme, `{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=XTSkBZlzqmn"}`, false},
		{"check", EndpointTextCheck, `{"errcode":0,"errmsg":"ok","result":{"suggest":"pass","label":100},"detail":[{"strategy":"content_model","errcode":0,"suggest":"pass","label":100,"prob":90}],"trace_id":"60ae120f-371d5872-7941a05b"}`, false},
		{"refused", EndpointSubscribe, `{"errcode":43101,"errmsg":"user refuse to accept the msg rid: 66a1b2c3-1234abcd-5678ef90"}`, true},
		{"no JSON", EndpointSubscribe, `<html><body>502 Bad Gateway</body></html>`, true},
	} {
		b.Run(bb.name, func(b *testing.B) {
			rep := reply{endpoint: bb.endpoint, status: 200, contentType: "application/json; encoding=utf-8", body: []byte(bb.body)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decodeAnswer(rep, secrets); (err != nil) != bb.fails {
					b.Fatal(err)
				}
			}
		})
	}
}
