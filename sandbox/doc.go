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
// quota/get, clear_quota with a token and (v2) with the secret, rid/get, gettemplate, get_all_private_template,
// jscode2session, getuserphonenumber, getliveinfo, and the daily visits and user portrait of /datacube. The documented limits hold per app: seconds and minutes
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
// # Pushes
//
// An app with a [Callback], set by [Options.Callbacks] or [Server.SetCallback], is told by a push: signed, encrypted where the
// callback has an AES key, in XML or JSON, and sent up to three times until it is answered with "success", nothing or a reply.
//
//	TEMPLATESENDJOBFINISH       after each template message: its receipt; in XML always, as all pushes to official accounts
//	subscribe_msg_sent_event    after each subscribe message, likewise; in XML for official accounts' (subscribe/bizsend)
//	wxa_media_check             after media_check_async: the verdict; -1008 for a media_url whose host is under .invalid
//	subscribe_msg_popup_event   after Popup: a person answered the question whether to subscribe; Credits change accordingly
//	subscribe_msg_change_event  after Change: a person rejected templates in the settings; no credits are left
//
// [PushOptions] sets delays and an order, [Server.Pushes] lists what was pushed, [Server.WaitPushes] waits until all is. Pushes
// wait in memory; [Server.Close] or the function that Start returns ends them. An openid that starts with "<fault>[<n>]-" gets
// a fault on all of its pushes, or on the first n of each event; rules added with [Server.AddPushFault] do so for an app, event,
// openid or template, also at a rate that [Options.Seed] makes repeatable.
//
//	noreceipt      never pushed                       userblock     the receipt says "failed:user block"
//	earlyreceipt   pushed before the call's answer    systemfailed  the receipt says "failed: system failed"
//	latereceipt    pushed 2 s later                   freqlimit     the receipt says "failed:freq limit"
//	twice          pushed twice                       badsignature  signed with another token
//
// WeChat documents no ErrorCode of failed subscribe messages; the sandbox's is 20001.
//
// # Templates
//
// Each app has made-up templates, and accepts messages of any. After [Server.SetTemplates] it accepts only the listed ones: a
// message of another template is refused with 40037, one without a field, or with a value that is not among a field's Enums,
// with 47003. Long-term templates use up no credits.
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
//	GET    /sandbox/credits?app=&openid=&template=          {"credits"}; -1: unlimited
//	POST   /sandbox/popup      {"app":"…","openid":"…","choices":[{"template":"…","status":"accept"}]}   or "reject"
//	POST   /sandbox/change     {"app":"…","openid":"…","choices":[{"template":"…","status":"reject"}]}
//	GET    /sandbox/templates?app=               the templates
//	POST   /sandbox/templates  {"app":"…","templates":[{"id":"…","title":"…","content":"商品:{{thing1.DATA}}","type":2}]}
//	POST   /sandbox/callback   {"app":"…","url":"…","token":"…","aes_key":"…","format":"json","verify":true}
//	                           verify: the URL must answer WeChat's verification
//	DELETE /sandbox/callback?app=
//	GET    /sandbox/pushes?app=&event=&openid=&msgid=&status=&limit=   kept pushes, oldest first
//	GET    /sandbox/pushcounts                   {"taken","failed","queued","lost","discarded"}; those above 0
//	GET    /sandbox/pushfaults                   the rules of pushes
//	POST   /sandbox/pushfaults {"fault":"noreceipt","rate":0.01,"app":"…","event":"…","openid":"…","template":"…","count":10}
//	                           or {"fault":"latereceipt","delay":"1m",…}; returns the rule with its id
//	DELETE /sandbox/pushfaults?id=               one rule, or all
//	POST   /sandbox/latency    {"latency":"50ms"}
//	POST   /sandbox/ip         {"app":"…","blocked":true}   40164 on the token endpoints
//	POST   /sandbox/secret     {"app":"…","secret":"…"}     the token endpoints answer 40125 to any other
//	POST   /sandbox/ticket     {"provider":"…"}             pushes a component_verify_ticket to the service provider
//	POST   /sandbox/authorize  {"provider":"…","app":"…"}   the app authorizes the provider (again), and pushes that; with
//	                           "pre_auth_code":"…" as from the provider's link
//	POST   /sandbox/unauthorize {"provider":"…","app":"…"}  the app takes that back
//	POST   /sandbox/rotate     {"provider":"…","rotate":true}   each token of an authorizer has a new refresh token
//	POST   /sandbox/reset                        clear all state
//
// # Files
//
//	server.go, options.go              Server, its state and its options
//	endpoints.go                       the endpoints, one row each
//	exchange.go, respond.go            one call: received, processed, answered
//	tokens.go, tokencalls.go           tokens, and how a call identifies its app
//	component.go, componentcalls.go    service providers and the accounts that authorize them
//	security.go                        the API security mode
//	messages.go, values.go             messages, and the values of templates' fields
//	consent.go, templates.go           subscriptions, and the lists of templates
//	push.go, pushqueue.go, pushsend.go the callbacks, the queue of pushes, and their requests
//	pushevents.go, pushfaults.go       what is pushed, and its faults
//	links.go, codes.go, checks.go      links, codes, content checks
//	quota.go, rids.go, login.go, live.go, datacube.go
//	                                   the other endpoints
//	limits.go                          the documented limits
//	errcodes.go, wordings.go           refusals, and WeChat's errmsg of each errcode
//	faults.go, rules.go                faults, and the rules that say where they occur
//	calllog.go                         the call log
//	control.go, controlpush.go         the control API
//	internal/recent                    sliding windows and counts in bounded memory
//	internal/madeup                    made-up data and pictures of codes
//	internal/pushwire                  the format, signature and encryption of pushes
package sandbox
