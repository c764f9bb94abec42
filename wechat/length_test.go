package wechat

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// recorder is an HTTP server that records the bytes of its requests.
type recorder struct {
	net.Listener
	requests chan []byte
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{listener, make(chan []byte, 16)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			r.serve(t, conn)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return r
}

// serve answers one request with an answer that is a success on every endpoint.
func (r *recorder) serve(t *testing.T, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	var received bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &received)))
	if err == nil {
		_, err = io.Copy(io.Discard, request.Body)
	}
	if err != nil {
		t.Errorf("read the request: %v", err)
		return
	}
	r.requests <- received.Bytes()
	const answer = `{"errcode":0,"errmsg":"ok","access_token":"t","expires_in":7200,"quota":{}}`
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(answer), answer)
}

// WeChat answers 412 to a request without Content-Length.
func TestEveryRequestHasContentLength(t *testing.T) {
	r := newRecorder(t)
	url := "http://" + r.Addr().String()
	client := testClient(t, url, 5*time.Second)
	fetcher := newTokenFetcher(Config{BaseURL: url, Timeout: 5 * time.Second})
	t.Cleanup(fetcher.exchanger.closeIdle)
	call := func(request Request) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := client.Call(ctx, testApp, request)
			return err
		}
	}
	tests := []struct {
		name string
		send func(context.Context) error
	}{
		{"JSON", call(Request{Path: EndpointCustom, Body: []byte(`{"touser":"o"}`)})},
		{"nothing", call(Request{Path: EndpointCustom})},
		{"a large body", call(Request{Path: EndpointCustom, Body: bytes.Repeat([]byte(" "), 1<<20)})},
		{"an upload", call(Request{Path: EndpointImageCheck, Media: []byte(pngBytes)})},
		{"a large upload", call(Request{Path: EndpointImageCheck, Media: append([]byte(pngBytes), make([]byte, 1<<20)...)})},
		{"quota", func(ctx context.Context) error {
			_, err := client.Quota(ctx, testApp, EndpointCustom)
			return err
		}},
		{"clear quota", func(ctx context.Context) error { return client.ClearQuota(ctx, testApp) }},
		{"stable token", func(ctx context.Context) error {
			_, err := fetcher.fetch(ctx, Credential{App: testApp, Secret: testSecret, Mode: ModeStable}, "")
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.send(t.Context()); err != nil {
				t.Fatal(err)
			}
			received := <-r.requests
			head, body, _ := bytes.Cut(received, []byte("\r\n\r\n"))
			if want := fmt.Sprintf("\r\nContent-Length: %d\r\n", len(body)); !strings.Contains(string(head)+"\r\n", want) || bytes.Contains(head, []byte("Transfer-Encoding")) {
				t.Errorf("a body of %d bytes has the header\n%s", len(body), head)
			}
		})
	}
}
