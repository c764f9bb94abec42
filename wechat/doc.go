// Package wechat is a client of WeChat's (微信) server API. It calls endpoints with a shared
// access token, decodes answers in all the formats that WeChat uses, and returns errors that
// state what happened. Retrying is left to the caller. An error tells the caller
//
//   - WeChat's errcode and its meaning on this endpoint ([APIError], [Classify]);
//   - whether the request may have reached WeChat ([Written]), and so whether a send may be
//     repeated;
//   - whether the call failed because there was no token ([TokenError]).
//
// All replicas share tokens through Redis ([Tokens]); one refresh serves all of them.
//
//	tokens := wechat.NewTokens(cfg, rdb, credentials)
//	defer tokens.Close()
//	client := wechat.NewClient(cfg, tokens)
//	answer, err := client.Call(ctx, "wx0123456789abcdef", wechat.Request{
//		Path: wechat.EndpointScheme,
//		Body: []byte(`{"jump_wxa":{"path":"pages/index/index"}}`),
//	})
//
// The calls that mini programs make beside messages, links and codes have methods with types, such
// as the login of a person:
//
//	session, err := client.Code2Session(ctx, app, code) // the code of wx.login
//	id := session.OpenID.Reveal()
//	data, err := wechat.DecryptUserData(session.Key, encryptedData, iv, app)
//
// Errors and log lines of this package contain no token, app secret, session key, openid, phone
// number or message text, and it stores none but tokens. What a call returns about a person has
// type [Secret], which prints as "[redacted]".
//
// The files, by what they hold:
//
//	client.go, config.go, quota.go     Client: calls, and the calls about quotas and calls
//	login.go, analysis.go, live.go     Client: the calls about persons, figures and live rooms
//	endpoint.go, success.go            the endpoints, and what each returns on success
//	answers.go, multipart.go           the formats of answers, and of an upload
//	exchange.go                        one HTTP exchange within its timeouts
//	token*.go, secret.go               Tokens, which caches, shares and refreshes tokens; Secret
//	errcode*.go, class.go, classify.go, codetable.go
//	                                   the code table, the classes of its rows, and its use
//	errors.go, advice.go, redact.go    errors, advice about them, and what they must not contain
//	internal/httpconn                  the connections: what was written, where an answer ends
package wechat
