// Package sandbox is a fake of WeChat's server API: an http.Handler that answers, refuses, limits and fails as
// api.weixin.qq.com does, and records its calls. It serves to test a service that sends through WeChat, and to rehearse its
// operation, without an account.
//
//	wx := sandbox.New(sandbox.Options{Apps: map[string]string{"wx0123456789abcdef": "secret"}})
//	url, stop := wx.Start()
//	defer stop()
//	// let the service under test call url instead of https://api.weixin.qq.com, then check:
//	wx.Delivered("wx0123456789abcdef", "oAbc", "")   // messages that reached this person
//	wx.Duplicates()                                  // messages that reached a person twice
//	wx.Peak("wx0123456789abcdef", "/wxa/generatescheme") // the busiest second and minute
//
// # What it supports
//
// Tokens of both families (/cgi-bin/token: each call issues a new one, and the previous one stays valid for five minutes;
// /cgi-bin/stable_token: the same one while it is valid), subscribe, template, official-account subscribe, custom and uniform
// messages, URL schemes and links, NFC schemes, short links, the three kinds of codes, the text, image and media checks,
// quota/get, clear_quota with a token and (v2) with the secret, rid/get, gettemplate, jscode2session, getuserphonenumber,
// getliveinfo, and the daily visits and user portrait of /datacube. The documented limits hold per app: seconds and minutes
// in any sliding window, days by the calendar of Asia/Shanghai. People, phone numbers, templates, rooms and figures are made
// up, and the same in each run. A request without Content-Length is answered 412, as by WeChat's front-end servers.
// Sources: the pages of https://developers.weixin.qq.com/miniprogram/dev/server/API/ and
// https://developers.weixin.qq.com/doc/service/.
//
// # Faults
//
// An openid that starts with "<fault>[<n>]-", such as "busy3-oAbc", triggers that fault for the first n calls to this openid
// on each endpoint. Without n, a fault marked * occurs on every call, the others once.
//
//	busy        -1                          reset       connection reset, not accepted
//	concurrent  43108                       lost        accepted, then the connection is reset
//	second      44990                       hang        never answered, not accepted
//	minute      45011                       hangafter   accepted, never answered
//	day         45009                       cut         accepted, half the answer is sent
//	token       40001, token revoked        garbage     200 with an HTML page, not accepted
//	slow*       300 ms later                badgateway  502 with an HTML page, not accepted
//	unsubscribed* 43101   blocked* 43004    inactive* 45015   badopenid* 40003   risky* a check finds risky content
//
// The first three of the last line are answers of message endpoints; other endpoints ignore them.
//
// Requests without an openid name a fault at the start of jump_wxa.query, query, scene, js_code or code ("busy-1" or
// "fault=busy&id=1"), or in the parameter fault of path or page_url. An upload names it in the file name, or by the text
// "sandbox:fault=<name>;" after the end of the image data, where decoders ignore it.
//
// Rules added with [Server.AddFault] inject the same faults, or any errcode, into all calls or those of an app, path, openid
// or template, also at a rate, and with a delay of the answer.
//
// # Control API
//
// The methods of Server are also available over HTTP, in JSON; an error is a 400 with {"error":"…"}, which names an unknown
// or missing parameter. [Server.Handler] rejects requests that a browser sends for another website.
//
//	GET    /sandbox/calls?app=&path=&openid=&template=&errcode=&delivered=true&limit=   kept calls, oldest first
//	GET    /sandbox/counts                       [{"app","path","errcode","calls","delivered"}]
//	GET    /sandbox/tally?app=&openid=&target=   {"calls","delivered"}; target is a template id or a path
//	GET    /sandbox/duplicates                   [{"app","path","openid","template","times","body"}]
//	GET    /sandbox/peak?app=&path=              {"second","minute"}
//	GET    /sandbox/tokens?app=                  {"classic","stable"}: how many were issued
//	GET    /sandbox/faults                       the rules
//	POST   /sandbox/faults     {"fault":"busy","rate":0.02,"path":"…","app":"…","openid":"…","template":"…","count":10}
//	                           or {"errcode":48001,"errmsg":"…",…}, or {"delay":"2s",…}, also beside one of them;
//	                           returns the rule with its id
//	DELETE /sandbox/faults?id=                   one rule, or all
//	POST   /sandbox/revoke     {"app":"…"}       all tokens of the app
//	POST   /sandbox/quota      {"app":"…","path":"…","used":100000}
//	POST   /sandbox/credits    {"app":"…","openid":"…","template":"…","credits":1}
//	POST   /sandbox/latency    {"latency":"50ms"}
//	POST   /sandbox/ip         {"app":"…","blocked":true}   40164 on the token endpoints
//	POST   /sandbox/secret     {"app":"…","secret":"…"}     the token endpoints answer 40125 to any other
//	POST   /sandbox/reset                        clear all state
//
// # Files
//
//	server.go, options.go              Server, its state and its options
//	endpoints.go                       the endpoints, one row each
//	exchange.go, respond.go            one call: received, processed, answered
//	tokens.go, tokencalls.go           tokens, and how a call identifies its app
//	security.go                        the API security mode
//	messages.go, values.go             messages, and the values of templates' fields
//	links.go, codes.go, checks.go      links, codes, content checks
//	quota.go, rids.go, templates.go, login.go, live.go, datacube.go
//	                                   the other endpoints
//	limits.go                          the documented limits
//	errcodes.go, wordings.go           refusals, and WeChat's errmsg of each errcode
//	faults.go                          faults and rules
//	calllog.go, control.go             the call log, and the control API
//	internal/recent                    sliding windows and counts in bounded memory
//	internal/madeup                    made-up data and pictures of codes
package sandbox
