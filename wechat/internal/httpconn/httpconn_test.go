package httpconn

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/iotest"
)

// script is a connection that reads from r and accepts writes.
type script struct {
	net.Conn
	r io.Reader
}

func (s script) Read(p []byte) (int, error)  { return s.r.Read(p) }
func (s script) Write(p []byte) (int, error) { return len(p), nil }

// TestAnswerEnds has what a server sends to one request, and how much of it is passed on.
func TestAnswerEnds(t *testing.T) {
	const excess = "EXCESS"
	tests := []struct {
		name         string
		answer, rest string
		want         string // "": answer
	}{
		{name: "length", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "length 0", answer: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{name: "204", answer: "HTTP/1.1 204 No Content\r\n\r\n", rest: excess},
		{name: "chunked", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{}\r\n0\r\nA: b\r\n\r\n", rest: excess},
		{name: "informational first", answer: "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"},
		{name: "chunk size not a number", answer: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", rest: "zz\r\n{}\r\n"},
		{
			name: "no length", answer: "HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}",
			want: "HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\n{}",
		},
		{
			name: "two lengths", answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
			want: "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			if want == "" {
				want = tt.answer
			}
			for name, r := range map[string]io.Reader{
				"at once":      strings.NewReader(tt.answer + tt.rest),
				"byte by byte": iotest.OneByteReader(strings.NewReader(tt.answer + tt.rest)),
			} {
				conn := &answerConn{Conn: script{r: r}}
				conn.expectAnswer()
				if got, _ := io.ReadAll(conn); string(got) != want {
					t.Errorf("%s: passed on %q, want %q", name, got, want)
				}
			}
		})
	}
}

// Nothing is expected before a request and after its answer; what comes then is not passed on.
func TestUnexpectedBytesAreDropped(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
	before := &answerConn{Conn: script{r: strings.NewReader(answer)}}
	if got, err := io.ReadAll(before); len(got) != 0 || err != nil {
		t.Errorf("before a request: %q, %v", got, err)
	}
	after := &answerConn{Conn: script{r: strings.NewReader(answer + answer)}}
	after.expectAnswer()
	// Both came at once, so the header must also keep net/http from using the connection again.
	if got, err := io.ReadAll(after); string(got) != strings.Replace(answer, "\r\n", "\r\nConnection: close\r\n", 1) || err != nil {
		t.Errorf("two answers to one request: %q, %v", got, err)
	}
	tunnel := &answerConn{Conn: script{r: strings.NewReader("anything")}}
	if _, err := tunnel.Write([]byte("CONNECT")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(tunnel); string(got) != "anything" || err != nil {
		t.Errorf("a connection of a proxy: %q, %v", got, err)
	}
}

// failing is a connection whose writes accept n bytes and then fail.
type failing struct {
	net.Conn
	n int
}

func (f *failing) Write(p []byte) (int, error) {
	n := min(f.n, len(p))
	if f.n -= n; n < len(p) {
		return n, io.ErrClosedPipe
	}
	return n, nil
}

// A request whose write failed counts as written from the first byte that was accepted.
func TestWritten(t *testing.T) {
	for accepted, written := range []bool{false, true} {
		client, server := net.Pipe() // its reads wait until net/http closes it
		transport := NewTransport()
		transport.Proxy = nil
		transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			return Wrap(&failing{Conn: client, n: accepted}), nil
		}
		var trace RequestTrace
		ctx := httptrace.WithClientTrace(t.Context(), trace.ClientTrace())
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://wechat.invalid/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		if err == nil || trace.Written() != written || trace.Reused() {
			t.Errorf("%d bytes accepted: written %t: %v", accepted, trace.Written(), err)
		}
		_ = server.Close()
	}
}
