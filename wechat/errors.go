package wechat

import (
	"errors"
	"fmt"
	"strings"
)

// APIError is WeChat's own answer, saying no: an errcode other than 0. The request
// reached WeChat and, but for what [Classify] says about the code, was not carried out.
// The codes are listed at
// https://developers.weixin.qq.com/doc/oplatform/developers/errCode/errCode.html
// and on each endpoint's page.
type APIError struct {
	Endpoint Endpoint
	Code     int
	Msg      string // errmsg without its rid; tokens, openids and values of the request are masked
	RID      string // WeChat's request id, "" when there was none; /cgi-bin/openapi/rid/get resolves it for 7 days
}

func (e *APIError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "wechat %s: errcode %d", e.Endpoint, e.Code)
	if e.Msg != "" {
		b.WriteString(" " + e.Msg)
	}
	if e.RID != "" {
		b.WriteString(" rid: " + e.RID)
	}
	return b.String()
}

// Class is what the code means on this endpoint: [Classify], and for the codes that
// count several windows also the errmsg, which names the shorter ones.
func (e *APIError) Class() Class {
	class := Classify(e.Endpoint, e.Code)
	if class != ClassQuotaDay {
		return class
	}
	// Only ever narrowed: to take a minute for a day costs a day, to take a day for
	// a minute costs one refused call a minute.
	switch msg := strings.ToLower(e.Msg); {
	case strings.Contains(msg, "minute"):
		return ClassRateMinute
	case strings.Contains(msg, "second"):
		return ClassRateSecond
	}
	return class
}

// TransportError means that there was no answer: the request did not get out, or
// nothing came back.
type TransportError struct {
	Endpoint Endpoint
	Written  bool   // some of the request may have reached the peer; false: surely none of it
	Op       string // how far it came: "prepare", "connect", "wait", "send" or "receive"
	Err      error  // never holds the URL: it would carry the token
}

func (e *TransportError) Error() string {
	return fmt.Sprintf("wechat %s: %s: %v", e.Endpoint, e.Op, e.Err)
}

func (e *TransportError) Unwrap() error { return e.Err }

// AnswerError is an answer that is not WeChat's, or not all of it: a 5xx, a proxy's
// HTML, a body that was cut or is too large. The request was written; whether WeChat
// carried it out is not known.
type AnswerError struct {
	Endpoint Endpoint
	Status   int    // HTTP status
	Reason   string // what is wrong with it; never a piece of the body
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("wechat %s: HTTP status %d: %s", e.Endpoint, e.Status, e.Reason)
}

// TokenError means that there is no token to call with, so that the business request
// was not carried out: nothing of it was written, or WeChat refused its token.
//
// Err tells why: an [APIError] of a token endpoint (its Class is ClassConfig when the
// app's own set-up is at fault), a [TransportError] or [AnswerError] of the token
// fetch, [ErrNoCredentials], [ErrTokenRejected], or Redis' own error.
type TokenError struct {
	App string
	Err error
}

func (e *TokenError) Error() string { return fmt.Sprintf("no token for app %s: %v", e.App, e.Err) }

func (e *TokenError) Unwrap() error { return e.Err }

var (
	// ErrTokenRejected means that WeChat refused the token, and that no better one was
	// to be had: the same came back, or the new one was refused too.
	ErrTokenRejected = errors.New("WeChat rejects the token, and refreshing it did not help")
	// ErrNoCredentials means that no secret is configured for the app.
	ErrNoCredentials = errors.New("no credentials are configured for this app")
	// ErrClosed means that the Tokens were closed.
	ErrClosed = errors.New("the token source is closed")
)

// Written tells whether the business request may have reached WeChat in a way that
// could have carried it out. It is true for every error that this package does not
// know, since that is the safe reading, and false for nil.
func Written(err error) bool {
	var tokenErr *TokenError
	var transportErr *TransportError
	switch {
	case err == nil:
		return false
	case errors.As(err, &tokenErr): // before the others: it wraps those of the token fetch
		return false
	case errors.As(err, &transportErr):
		return transportErr.Written
	}
	return true
}
