// Package pushwire writes and signs the requests in which WeChat pushes an event to the URL of an account: JSON and XML, plain
// and safe mode. It shares no code with package wechat/callback, which reads such requests: each is a check of the other.
//
// Source: https://developers.weixin.qq.com/miniprogram/dev/framework/server-ability/message-push.html
package pushwire
