// Package sandbox is a stand-in for WeChat's server API: an http.Handler that answers, refuses, limits and misbehaves as
// api.weixin.qq.com does, and remembers what it was asked. It serves the tests of a service that sends through WeChat, and
// rehearsals, without an account.
//
//	wx := sandbox.New(sandbox.Options{Apps: map[string]string{"wx0123456789abcdef": "secret"}})
//	url, stop := wx.Start()
//	defer stop()
//	// let the service under test call url instead of https://api.weixin.qq.com, then ask:
//	wx.Delivered("wx0123456789abcdef", "oAbc", "")   // messages that reached this person
//	wx.Duplicates()                                  // messages that reached somebody twice
//	wx.Peak("wx0123456789abcdef", "/wxa/generatescheme") // the busiest second and minute
//
// # What it knows
//
// Tokens of both families (/cgi-bin/token: each call makes a new one and the one before lives five minutes on;
// /cgi-bin/stable_token: the same one while it is valid), subscribe, template, official-account subscribe, custom and uniform
// messages, URL schemes and links, NFC schemes, short links, the three kinds of codes, the text, image and media checks,
// quota/get, clear_quota with a token and (v2) with the secret, rid/get, gettemplate, jscode2session, getuserphonenumber,
// getliveinfo, and the daily visits and user portrait of /datacube. The documented limits hold per app: seconds and minutes
// in any sliding window, days by the calendar of Asia/Shanghai. People, phone numbers, templates, rooms and figures are made
// up, and the same each time. A request without Content-Length is answered 412, as by WeChat's front door.
// Sources: the pages of https://developers.weixin.qq.com/miniprogram/dev/server/API/ and
// https://developers.weixin.qq.com/doc/service/.
//
// # Faults
//
// A receiver whose openid starts with "<fault>[<n>]-", such as "busy3-oAbc", meets that fault, for the first n calls to that
// openid and endpoint. Without n a passing fault comes once, and a lasting one (marked *) always.
//
//	busy        -1                          reset       connection reset, not accepted
//	concurrent  43108                       lost        accepted, then the connection is reset
//	second      44990                       hang        never answered, not accepted
//	minute      45011                       hangafter   accepted, never answered
//	day         45009                       cut         accepted, the answer ends in its middle
//	token       40001, token revoked        garbage     200 with an HTML page, not accepted
//	slow*       300 ms more                 badgateway  502 with an HTML page, not accepted
//	unsubscribed* 43101   blocked* 43004    inactive* 45015   badopenid* 40003   risky* a check says risky
//
// Requests without an openid name a fault at the start of jump_wxa.query, query, scene, js_code or code ("busy-1" or
// "fault=busy&id=1"), or as the parameter fault in the query of path or page_url; an image by its file name or by the text "sandbox:fault=<name>;" among its
// bytes, where a decoder does not look (after the end of the picture).
//
// Rules made by [Server.AddFault] do the same for any call, at a rate, for an app, path, openid or template, and may answer
// any errcode.
//
// # Control API
//
// All of it is also there over HTTP, in JSON; an error is a 4xx with {"error":"…"}. Where [Server.Handler] serves it, a browser
// cannot call it for another website.
//
//	GET    /sandbox/calls?app=&path=&openid=&template=&errcode=&delivered=true&limit=   kept calls, oldest first
//	GET    /sandbox/counts                       [{"app","path","errcode","calls","delivered"}]
//	GET    /sandbox/tally?app=&openid=&target=   {"calls","delivered"}; target is a template id or a path
//	GET    /sandbox/duplicates                   [{"app","path","openid","template","times","body"}]
//	GET    /sandbox/peak?app=&path=              {"second","minute"}
//	GET    /sandbox/tokens?app=                  {"classic","stable"}: how many were issued
//	GET    /sandbox/faults                       the rules
//	POST   /sandbox/faults     {"fault":"busy","rate":0.02,"path":"…","app":"…","openid":"…","template":"…","count":10}
//	                           or {"errcode":48001,"errmsg":"…",…}; answers the rule with its id
//	DELETE /sandbox/faults?id=                   one rule, or all
//	POST   /sandbox/revoke     {"app":"…"}       all tokens of the app
//	POST   /sandbox/quota      {"app":"…","path":"…","used":100000}
//	POST   /sandbox/credits    {"app":"…","openid":"…","template":"…","credits":1}
//	POST   /sandbox/latency    {"latency":"50ms"}
//	POST   /sandbox/ip         {"app":"…","blocked":true}   40164 on the token endpoints
//	POST   /sandbox/reset                        forget everything
package sandbox
