package wechat

import (
	"errors"
	"strconv"
	"time"
)

// failure describes a failed refresh as stored in Redis for all replicas. Its texts are
// already redacted.
type failure struct {
	kind     string // one of the constants below, "" if there is no failure
	endpoint Endpoint
	code     int    // of an *APIError; the HTTP status of an *AnswerError
	text     string // errmsg, reason or error text
	rid      string
	op       string // of a *TransportError
	rejected string // tokenHash of the rejected token that the refresh returned again
	asked    string // Credential.fingerprint of the request; "": not known
	tries    int64  // failures in a row
	until    time.Time
}

const (
	failedAPI       = "api"
	failedAnswer    = "answer"
	failedTransport = "transport"
	failedRejected  = "rejected"
	failedOther     = "other"
	failedNoTicket  = "no_ticket"
	failedNoAuth    = "unauthorized"
)

// newFailure converts err to a failure without tries and until.
func newFailure(err error, rejected Secret) failure {
	var apiErr *APIError
	var answerErr *AnswerError
	var transportErr *TransportError
	switch {
	case errors.Is(err, ErrTokenRejected):
		return failure{kind: failedRejected, rejected: tokenHash(rejected)}
	case errors.Is(err, ErrNoTicket):
		return failure{kind: failedNoTicket}
	case errors.Is(err, ErrUnauthorized):
		return failure{kind: failedNoAuth}
	case errors.As(err, &apiErr):
		return failure{kind: failedAPI, endpoint: apiErr.Endpoint, code: apiErr.Code, text: apiErr.Msg, rid: apiErr.RID}
	case errors.As(err, &answerErr):
		return failure{kind: failedAnswer, endpoint: answerErr.Endpoint, code: answerErr.Status, text: answerErr.Reason}
	case errors.As(err, &transportErr):
		return failure{kind: failedTransport, endpoint: transportErr.Endpoint, op: transportErr.Op, text: transportErr.Err.Error()}
	}
	return failure{kind: failedOther, text: err.Error()}
}

// err returns the stored error with its original type.
func (f failure) err() error {
	switch f.kind {
	case failedRejected:
		return ErrTokenRejected
	case failedNoTicket:
		return ErrNoTicket
	case failedNoAuth:
		return ErrUnauthorized
	case failedAPI:
		return &APIError{Endpoint: f.endpoint, Code: f.code, Msg: f.text, RID: f.rid}
	case failedAnswer:
		return &AnswerError{Endpoint: f.endpoint, Status: f.code, Reason: f.text}
	case failedTransport:
		return &TransportError{Endpoint: f.endpoint, Op: f.op, Err: errors.New(f.text)}
	}
	return errors.New(f.text)
}

// inForce reports whether the failure forbids requesting a token now with cred. It does not
// apply to credentials that differ from those that failed: they may have been corrected. A
// failure of kind failedRejected only applies to callers with the same rejected token.
func (f failure) inForce(now time.Time, rejected Secret, cred Credential) bool {
	if f.kind == "" || !now.Before(f.until) || f.asked != "" && f.asked != cred.fingerprint() {
		return false
	}
	return f.kind != failedRejected || f.rejected == tokenHash(rejected)
}

// fields returns the fields and values of the hash in Redis.
func (f failure) fields() []any {
	return []any{
		"kind", f.kind, "endpoint", string(f.endpoint), "code", f.code, "text", f.text, "rid", f.rid,
		"op", f.op, "rejected", f.rejected, "asked", f.asked, "tries", f.tries, "until_ms", f.until.UnixMilli(),
	}
}

// failureOf parses the hash; a field that cannot be parsed is zero.
func failureOf(fields map[string]string) failure {
	code, _ := strconv.Atoi(fields["code"])
	tries, _ := strconv.ParseInt(fields["tries"], 10, 64)
	return failure{
		kind:     fields["kind"],
		endpoint: Endpoint(fields["endpoint"]),
		code:     code,
		text:     fields["text"],
		rid:      fields["rid"],
		op:       fields["op"],
		rejected: fields["rejected"],
		asked:    fields["asked"],
		tries:    tries,
		until:    unixMilli(fields["until_ms"]),
	}
}
