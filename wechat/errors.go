package wechat

import (
	"errors"
	"fmt"
	"strings"
)

// APIError is an answer from WeChat with an errcode other than 0. The request reached WeChat
// and, unless [Classify] says otherwise about the code, was not carried out.
// The codes are listed at
// https://developers.weixin.qq.com/doc/oplatform/developers/errCode/errCode.html
// and on each endpoint's page.
type APIError struct {
	Endpoint Endpoint
	Code     int
	Msg      string // errmsg without its rid; tokens, openids and values of the request are redacted
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

// Class returns the class of the code on this endpoint, as [Classify] does. For a code that
// stands for limits over several windows, the errmsg selects the window.
func (e *APIError) Class() Class {
	class := Classify(e.Endpoint, e.Code)
	if class != ClassQuotaDay {
		return class
	}
	// The errmsg may only shorten the window: treating a minute limit as a daily one costs
	// a day, treating a daily limit as a minute one costs one refused call a minute.
	switch msg := strings.ToLower(e.Msg); {
	case strings.Contains(msg, "minute"):
		return ClassRateMinute
	case strings.Contains(msg, "second"):
		return ClassRateSecond
	}
	return class
}

// TransportError means that there was no answer: the request was not sent, or nothing came
// back.
type TransportError struct {
	Endpoint Endpoint
	Written  bool   // true: part of the request may have reached the peer; false: certainly none of it
	Op       string // the step that failed: "prepare", "connect", "wait", "send" or "receive"
	Err      error  // never contains the URL, whose query has the token
}

func (e *TransportError) Error() string {
	return fmt.Sprintf("wechat %s: %s: %v", e.Endpoint, e.Op, e.Err)
}

func (e *TransportError) Unwrap() error { return e.Err }

// AnswerError is an answer that does not come from WeChat or is incomplete: a 5xx, a proxy's
// HTML, a truncated or oversized body. The request was written; whether WeChat carried it
// out is unknown.
type AnswerError struct {
	Endpoint Endpoint
	Status   int    // HTTP status
	Reason   string // what is wrong; never contains part of the body
}

func (e *AnswerError) Error() string {
	return fmt.Sprintf("wechat %s: HTTP status %d: %s", e.Endpoint, e.Status, e.Reason)
}

// TokenError means that there is no valid token, and that the business request was not
// carried out: nothing of it was written, or WeChat refused its token.
//
// Err is the cause: an [APIError] of a token endpoint (of ClassConfig when the app's
// configuration is wrong), a [TransportError] or [AnswerError] of the token request,
// [ErrNoCredentials], [ErrTokenRejected], [ErrNoTicket], [ErrUnauthorized], or an error from Redis.
type TokenError struct {
	App string
	Err error
}

func (e *TokenError) Error() string { return fmt.Sprintf("no token for app %s: %v", e.App, e.Err) }

func (e *TokenError) Unwrap() error { return e.Err }

var (
	// ErrTokenRejected means that WeChat refused the token and that a refresh did not help:
	// it returned the same token, or WeChat refused the new one too.
	ErrTokenRejected = errors.New("wechat: token rejected, and a refresh did not help")
	// ErrNoCredentials means that no credential is configured for the app.
	ErrNoCredentials = errors.New("wechat: no credentials configured for this app")
	// ErrNoTicket means that the service provider has no valid component_verify_ticket: none came
	// within the last twelve hours, or WeChat refuses the last one.
	ErrNoTicket = errors.New("wechat: the service provider has no valid component_verify_ticket: WeChat pushes one every ten minutes to /callback/<app id of the service provider>")
	// ErrUnauthorized means that WeChat has no authorization of the account for the service
	// provider, or gives no refresh token for it.
	ErrUnauthorized = errors.New("wechat: the account has not authorized the service provider, or has taken that back")
	// ErrClosed means that Tokens.Close was called.
	ErrClosed = errors.New("wechat: token source closed")
)

// Written reports whether WeChat may have received and carried out the business request. It
// is true for errors that this package does not know, which is the safe assumption, and false
// for nil.
func Written(err error) bool {
	var tokenErr *TokenError
	var transportErr *TransportError
	switch {
	case err == nil:
		return false
	case errors.As(err, &tokenErr): // checked first: it wraps the errors of the token request
		return false
	case errors.As(err, &transportErr):
		return transportErr.Written
	}
	return true
}
