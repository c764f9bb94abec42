// Package wechat speaks WeChat's (微信) server API: it calls endpoints with a
// shared access token, decodes what comes back however it comes, and says what
// happened in errors that carry facts. It decides nothing about retrying: that
// belongs to the caller, who learns from an error
//
//   - what WeChat said, and what that means on this endpoint ([APIError], [Classify]);
//   - whether the request may have reached WeChat at all ([Written]), which tells
//     a send that may be repeated from one that may not;
//   - whether it failed for want of a token ([TokenError]).
//
// Tokens are shared by all replicas through Redis ([Tokens]), one refresh serves
// all of them.
//
//	tokens := wechat.NewTokens(cfg, rdb, credentials)
//	defer tokens.Close()
//	client := wechat.NewClient(cfg, tokens)
//	answer, err := client.Call(ctx, "wx0123456789abcdef", wechat.Request{
//		Path: wechat.EndpointScheme,
//		Body: []byte(`{"jump_wxa":{"path":"pages/index/index"}}`),
//	})
//
// No token, app secret, openid or message text appears in an error or a log line
// of this package.
package wechat
