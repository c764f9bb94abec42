// Package httpconn is the wire under package wechat: HTTP/1 connections that know which bytes belong
// to a request and which to its answer. [NewTransport] returns an [http.Transport] that dials them.
//
//   - A connection counts the bytes that the kernel accepted for writing. A [RequestTrace] of one
//     round trip compares the counts, and so reports whether part of the request may have reached
//     the peer ([RequestTrace.Written]).
//   - A connection passes on only the bytes of the expected answer, and drops what follows it.
//     net/http would log such bytes, which may contain a token, or take them for the next answer.
//
// A round trip with a RequestTrace:
//
//	trace := httpconn.RequestTrace{BeforeWrite: wait}
//	req = req.WithContext(httptrace.WithClientTrace(ctx, trace.ClientTrace()))
//	resp, err := transport.RoundTrip(req)
//	if err != nil && !trace.Written() {
//		// certainly nothing was sent: the request may be repeated
//	}
//
// With another transport a RequestTrace cannot count bytes; Written is then true as soon as a
// header field was passed to a connection. The package knows nothing of WeChat's endpoints, answers
// and errors.
//
// transport.go dials; trace.go counts what is written; answerconn.go and framing.go find the end of
// an answer.
package httpconn
