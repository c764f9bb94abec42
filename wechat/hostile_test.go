package wechat

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// kind is a kind of endpoint, by what it returns on success.
type kind struct {
	name     string
	endpoint Endpoint
	body     string // of the request
	ok       string // the answer to it
}

const (
	hostileCode  = "8341"
	hostilePhone = "13800138000"
)

func kinds() []kind {
	values := `"phone":{"value":` + hostilePhone + `},"code":{"value":"` + hostileCode + `"},"thing":{"value":"` + testText + `"}`
	return []kind{
		{"message", EndpointSubscribe, `{"touser":"` + testOpenID + `","data":{` + values + `}}`, `{"errcode":0,"errmsg":"ok","msgid":3395159288267931652}`},
		{"link", EndpointScheme, `{"jump_wxa":{"query":"` + testText + `"},` + values + `}`, `{"errcode":0,"errmsg":"ok","openlink":"weixin://dl/business/?t=1"}`},
		{"code", EndpointUnlimitedCode, `{"scene":"` + testText + `",` + values + `}`, jpegBytes},
		{"check", EndpointTextCheck, `{"version":2,"openid":"` + testOpenID + `","content":"` + testText + `",` + values + `}`, `{"errcode":0,"errmsg":"ok","result":{"suggest":"pass","label":100},"trace_id":"t-1"}`},
	}
}

// The outcomes of a call.
const (
	accepted       = "accepted"
	noAnswer       = "no answer"       // *AnswerError: whether WeChat carried it out is not known
	connectionLost = "connection lost" // *TransportError of a written request, likewise
)

func apiError(code int) string { return fmt.Sprintf("errcode %d", code) }

func outcomeOf(err error) string {
	var api *APIError
	var answer *AnswerError
	var transport *TransportError
	switch {
	case err == nil:
		return accepted
	case errors.As(err, &api):
		return apiError(api.Code)
	case errors.As(err, &answer) && Written(err):
		return noAnswer
	case errors.As(err, &transport) && Written(err):
		return connectionLost
	}
	return err.Error()
}

// hostileRow is one malformed or unusual answer.
type hostileRow struct {
	name string
	// answer returns the whole HTTP answer. ok is the body of a success, echo the text of
	// the request.
	answer func(ok, echo string) string
	want   string
	except map[string]string // by kind of endpoint, where the outcome differs
	linger bool              // the server waits for the client to close the connection
}

// http200 returns an HTTP answer of status 200 with Content-Length.
func http200(body string, header ...string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(body), joined(header), body)
}

func joined(header []string) string {
	var b strings.Builder
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	return b.String()
}

func ofStatus(code int, header ...string) func(ok, echo string) string {
	return func(_, _ string) string {
		return fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: 0\r\n%s\r\n", code, http.StatusText(code), joined(header))
	}
}

func body(text string) func(ok, echo string) string {
	return func(_, _ string) string { return http200(text) }
}

func zipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// hostileRows returns all rows.
func hostileRows(elsewhere string) []hostileRow {
	return slices.Concat(hostileStatuses(elsewhere), hostileBodies(), hostileCodes(), hostileFraming())
}

func hostileStatuses(elsewhere string) []hostileRow {
	return []hostileRow{
		{name: "502", answer: ofStatus(502), want: noAnswer},
		{name: "503 with WeChat's body", answer: func(ok, _ string) string {
			return strings.Replace(http200(ok), "200 OK", "503 Service Unavailable", 1)
		}, want: noAnswer},
		{name: "201 with WeChat's body", answer: func(ok, _ string) string { return strings.Replace(http200(ok), "200 OK", "201 Created", 1) }, want: noAnswer},
		{name: "204", answer: ofStatus(204), want: noAnswer},
		{name: "304", answer: ofStatus(304), want: noAnswer},
		{name: "301", answer: ofStatus(301, "Location: "+elsewhere), want: noAnswer},
		{name: "302", answer: ofStatus(302, "Location: "+elsewhere), want: noAnswer},
		{name: "307", answer: ofStatus(307, "Location: "+elsewhere), want: noAnswer},
		{name: "308", answer: ofStatus(308, "Location: "+elsewhere), want: noAnswer},
		{name: "401", answer: ofStatus(401, `WWW-Authenticate: Basic realm="x"`), want: noAnswer},
		{name: "407", answer: ofStatus(407, `Proxy-Authenticate: Basic realm="x"`), want: noAnswer},
		{name: "408", answer: ofStatus(408), want: noAnswer},
		{name: "413", answer: ofStatus(413), want: noAnswer},
		{name: "429", answer: ofStatus(429, "Retry-After: 1"), want: noAnswer},
		{name: "101", answer: ofStatus(101, "Connection: Upgrade", "Upgrade: websocket"), want: noAnswer},
		{name: "status 999", answer: ofStatus(999), want: noAnswer},
		{name: "100 before the answer", answer: func(ok, _ string) string { return "HTTP/1.1 100 Continue\r\n\r\n" + http200(ok) }, want: accepted},
		{name: "103 before the answer", answer: func(ok, _ string) string {
			return "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http200(ok)
		}, want: accepted},
		{name: "103 for ever", answer: func(ok, _ string) string {
			return strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </"+strings.Repeat("x", 1000)+">\r\n\r\n", 20_000) + http200(ok)
		}, want: connectionLost},
	}
}

func hostileBodies() []hostileRow {
	return []hostileRow{
		{name: "HTML", answer: body("<!DOCTYPE html><html>sign in</html>"), want: noAnswer},
		{name: "empty", answer: body(""), want: noAnswer},
		{name: "blanks", answer: body(" \r\n\t"), want: noAnswer},
		{name: "truncated JSON", answer: body(`{"errcode":0,"errm`), want: noAnswer},
		{name: "trailing garbage", answer: body(`{"errcode":0,"errmsg":"ok"}garbage`), want: noAnswer},
		{name: "two answers", answer: body(`{"errcode":0}{"errcode":40003}`), want: noAnswer},
		{name: "an array", answer: body(`[{"errcode":0}]`), want: noAnswer},
		{name: "null", answer: body(`null`), want: noAnswer},
		{name: "NaN", answer: body(`{"errcode":NaN}`), want: noAnswer},
		{name: "a NUL", answer: body("{\"errcode\":0,\"errmsg\":\"o\x00k\"}"), want: noAnswer},
		{name: "only NULs", answer: body(strings.Repeat("\x00", 100)), want: noAnswer},
		{name: "nested 10,000 deep", answer: body(strings.Repeat(`{"result":`, 10_000) + "1" + strings.Repeat("}", 10_000)), want: noAnswer},
		{name: "nested 10,000 deep in an unknown field", answer: body(`{"x":` + strings.Repeat(`[`, 10_001) + strings.Repeat("]", 10_001) + "}"), want: noAnswer},
		{name: "10 MB", answer: body(`{"errcode":0,"errmsg":"` + strings.Repeat("x", 10<<20) + `"}`), want: noAnswer},
		{name: "gzip without Content-Encoding", answer: func(ok, _ string) string { return http200(zipped(ok)) }, want: noAnswer},
		{name: "gzip", answer: func(ok, _ string) string { return http200(zipped(ok), "Content-Encoding: gzip") }, want: accepted},
		{name: "Content-Encoding gzip, body not gzip", answer: func(ok, _ string) string { return http200(ok, "Content-Encoding: gzip") }, want: noAnswer},
		{name: "truncated gzip", answer: func(ok, _ string) string { z := zipped(ok); return http200(z[:len(z)-6], "Content-Encoding: gzip") }, want: noAnswer},
		{name: "a byte order mark", answer: func(ok, _ string) string { return http200("\ufeff" + ok) }, want: accepted, except: map[string]string{"code": noAnswer}},
		{name: "UTF-16", answer: body("\xff\xfe{\x00\"\x00e\x00"), want: noAnswer},
		{name: "wrong charset", answer: func(ok, _ string) string { return http200(ok, "Content-Type: text/plain; charset=gbk") }, want: accepted},
		{name: "GBK in errmsg", answer: body("{\"errcode\":40003,\"errmsg\":\"\xb6\xa9\xb5\xa5\"}"), want: apiError(40003)},
		{name: "Content-Type image, body not an image", answer: func(_, _ string) string { return http200("not an image", "Content-Type: image/jpeg") }, want: noAnswer, except: map[string]string{"code": accepted}},
		{name: "JSON with Content-Type image", answer: func(_, _ string) string {
			return http200(`{"errcode":40003,"errmsg":"invalid openid"}`, "Content-Type: image/jpeg")
		}, want: apiError(40003)},
		{name: "errmsg alone", answer: body(`{"errmsg":"service unavailable"}`), want: noAnswer},
		{name: "a gateway's JSON", answer: body(`{"code":0,"message":"success","data":null}`), want: noAnswer},
		{name: "{}", answer: body(`{}`), want: noAnswer},
		{name: "success without its result field", answer: body(`{"errcode":0,"errmsg":"ok"}`), want: noAnswer, except: map[string]string{"message": accepted}},
	}
}

func hostileCodes() []hostileRow {
	return []hostileRow{
		{name: "errcode as a string", answer: body(`{"errcode":"40003","errmsg":"invalid openid"}`), want: apiError(40003)},
		{name: "errcode negative", answer: body(`{"errcode":-1,"errmsg":"system error"}`), want: apiError(-1)},
		{name: "errcode huge", answer: body(`{"errcode":99999999999999999999999,"errmsg":"x"}`), want: noAnswer},
		{name: "errcode of 63 bits", answer: body(`{"errcode":9223372036854775807,"errmsg":"x"}`), want: apiError(9223372036854775807)},
		{name: "errcode as a fraction", answer: body(`{"errcode":0.5}`), want: noAnswer},
		{name: "errcode with an exponent", answer: body(`{"errcode":0e0}`), want: noAnswer},
		{name: "errcode true", answer: body(`{"errcode":true}`), want: noAnswer},
		{name: "errcode null", answer: body(`{"errcode":null}`), want: noAnswer},
		{name: "errcode empty", answer: body(`{"errcode":""}`), want: noAnswer},
		{name: "errcode a list", answer: body(`{"errcode":[0]}`), want: noAnswer},
		{name: "errcode twice", answer: body(`{"errcode":0,"errcode":40003}`), want: apiError(40003)},
		{name: "errmsg a list", answer: body(`{"errcode":40003,"errmsg":["x"]}`), want: apiError(40003)},
		{name: "errmsg with line ends, ESC and NUL", answer: body(`{"errcode":40003,"errmsg":"a\nb\r\u001b[31mc\u0000d\u202ee"}`), want: apiError(40003)},
		{name: "errmsg of 1 MB", answer: body(`{"errcode":40003,"errmsg":"` + strings.Repeat("x", 1<<20) + `"}`), want: apiError(40003)},
		{name: "errmsg echoes the request", answer: func(_, echo string) string {
			return http200(`{"errcode":47003,"errmsg":` + quoted("bad: "+echo) + `}`)
		}, want: apiError(47003)},
		{name: "rid echoes the request", answer: func(_, echo string) string {
			return http200(`{"errcode":47003,"errmsg":` + quoted("bad hint: ["+strings.ReplaceAll(echo, "]", ")")+"]") + `}`)
		}, want: apiError(47003)},
		{name: "an error page echoes the request", answer: func(_, echo string) string { return http200("<html>" + echo) }, want: noAnswer},
	}
}

func hostileFraming() []hostileRow {
	// follow returns a second answer, which an attacker wants the client to take for the
	// answer to the next request.
	follow := func(echo string) string { return http200(`{"errcode":0,"errmsg":` + quoted(echo) + `,"msgid":666}`) }
	longer := func(ok, echo string) string { return http200(ok) + `{"echo":"` + echo + `"}` }
	chunked := func(ok string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(ok), ok)
	}
	return []hostileRow{
		{name: "longer than its length", answer: longer, want: accepted, linger: true},
		{name: "followed by another answer", answer: func(ok, echo string) string { return http200(ok) + follow(echo) }, want: accepted, linger: true},
		{name: "length 0 and a body", answer: func(_, echo string) string { return http200("") + echo }, want: noAnswer, linger: true},
		{name: "204 and a body", answer: func(_, echo string) string { return ofStatus(204)("", "") + echo }, want: noAnswer, linger: true},
		{name: "304 and a body", answer: func(_, echo string) string { return ofStatus(304)("", "") + echo }, want: noAnswer, linger: true},
		{name: "redirect longer than its length", answer: func(_, echo string) string { return ofStatus(302, "Location: /")("", "") + echo }, want: noAnswer, linger: true},
		{name: "error longer than its length", answer: func(_, echo string) string { return ofStatus(502)("", "") + follow(echo) }, want: noAnswer, linger: true},
		{name: "shorter than its length", answer: func(ok, _ string) string { s := http200(ok); return s[:len(s)-1] }, want: noAnswer},
		{name: "two lengths", answer: func(ok, echo string) string { return http200(ok, "Content-Length: 5") + echo }, want: connectionLost},
		{name: "the same length twice", answer: func(ok, echo string) string { return http200(ok, fmt.Sprintf("Content-Length: %d", len(ok))) + echo }, want: accepted, linger: true},
		{name: "length that is not a number", answer: func(ok, _ string) string { return http200(ok, "Content-Length: x") }, want: connectionLost},
		{name: "length in a folded line", answer: func(ok, echo string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length:\r\n %d\r\n\r\n%s", len(ok), ok) + echo
		}, want: accepted, linger: true},
		{name: "length 1 EB", answer: func(ok, _ string) string {
			return "HTTP/1.1 200 OK\r\nContent-Length: 1152921504606846976\r\n\r\n" + ok
		}, want: noAnswer},
		{name: "no length", answer: func(ok, _ string) string { return "HTTP/1.1 200 OK\r\n\r\n" + ok }, want: accepted},
		{name: "chunked", answer: func(ok, _ string) string { return chunked(ok) + "0\r\n\r\n" }, want: accepted},
		{name: "chunked, followed by more bytes", answer: func(ok, echo string) string { return chunked(ok) + "0\r\nX: y\r\n\r\n" + echo }, want: accepted, linger: true},
		{name: "chunked, followed by another answer", answer: func(ok, echo string) string { return chunked(ok) + "0\r\n\r\n" + follow(echo) }, want: accepted, linger: true},
		{name: "chunked without an end", answer: func(ok, _ string) string { return chunked(ok) }, want: noAnswer},
		{name: "chunked with an invalid size", answer: func(ok, _ string) string { return chunked(ok) + "zz\r\n\r\n" }, want: noAnswer},
		{name: "chunked with a negative size", answer: func(ok, _ string) string { return chunked(ok) + "-1\r\n\r\n" }, want: noAnswer},
		{name: "chunk shorter than its size", answer: func(ok, _ string) string {
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n" + ok + "\r\n0\r\n\r\n"
		}, want: noAnswer},
		{name: "an unknown transfer encoding", answer: func(ok, echo string) string { return http200(ok, "Transfer-Encoding: rot13") + echo }, want: connectionLost},
		{name: "HTTP/1.0", answer: func(ok, _ string) string { return strings.Replace(http200(ok), "1.1", "1.0", 1) }, want: accepted},
		{name: "HTTP/1.0 with keep-alive", answer: func(ok, echo string) string {
			return strings.Replace(http200(ok, "Connection: keep-alive"), "1.1", "1.0", 1) + echo
		}, want: accepted, linger: true},
		{name: "lines that end in LF", answer: func(ok, echo string) string { return strings.ReplaceAll(http200(ok), "\r\n", "\n") + echo }, want: accepted, except: map[string]string{"code": accepted}, linger: true},
		{name: "keep-alive, then closed", answer: func(ok, _ string) string { return http200(ok, "Connection: keep-alive") }, want: accepted},
		{name: "close, then more bytes", answer: func(ok, echo string) string { return http200(ok, "Connection: close") + echo }, want: accepted, linger: true},
		{name: "not HTTP", answer: func(_, echo string) string { return echo }, want: connectionLost},
		{name: "SSH", answer: func(_, _ string) string { return "SSH-2.0-OpenSSH_9.6\r\n" }, want: connectionLost},
		{name: "nothing", answer: func(_, _ string) string { return "" }, want: connectionLost},
		{name: "half a header", answer: func(_, echo string) string { return "HTTP/1.1 200 OK\r\nX: " + echo }, want: connectionLost},
		{name: "a header of 20 MB", answer: func(ok, _ string) string { return http200(ok, "X: "+strings.Repeat("x", 20<<20)) }, want: connectionLost},
		{name: "a header line without a colon", answer: func(ok, _ string) string { return http200(ok, "garbage") }, want: connectionLost},
	}
}

func quoted(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// hostileServer answers its first request with row and the others with a success. It closes
// gone when the first connection has ended.
type hostileServer struct {
	row   hostileRow
	kind  kind
	first atomic.Bool
	gone  chan struct{}
}

func (s *hostileServer) serve(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		sent, _ := io.ReadAll(req.Body)
		if !s.first.CompareAndSwap(false, true) {
			_, _ = io.WriteString(c, http200(s.kind.ok))
			continue
		}
		_, _ = io.WriteString(c, s.row.answer(s.kind.ok, req.URL.RequestURI()+" "+string(sent)))
		if s.row.linger {
			_, _ = io.Copy(io.Discard, r) // until the client closes the connection
		}
		close(s.gone)
		return
	}
}

// standardLog collects what the standard logger writes during a test.
func standardLog(t *testing.T) *logBuffer {
	b := &logBuffer{}
	before := log.Writer()
	log.SetOutput(b)
	t.Cleanup(func() { log.SetOutput(before) })
	return b
}

// TestHostileAnswers checks for each answer that the call ends with the outcome of its row,
// follows no redirect, exposes no secret, does not affect the next call and writes nothing to
// the standard logger.
func TestHostileAnswers(t *testing.T) {
	logged := standardLog(t)
	var redirected atomic.Int64
	elsewhere := rawServer(t, func(net.Conn) { redirected.Add(1) })
	for _, row := range hostileRows(elsewhere) {
		t.Run(row.name, func(t *testing.T) {
			for _, k := range kinds() {
				hostileCall(t, row, k)
			}
			if text := logged.String(); text != "" {
				t.Fatalf("the standard logger has: %s", text)
			}
		})
	}
	if redirected.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func hostileCall(t *testing.T, row hostileRow, k kind) {
	t.Helper()
	s := &hostileServer{row: row, kind: k, gone: make(chan struct{})}
	client := testClient(t, rawServer(t, s.serve), 10*time.Second)
	answer, err := client.Call(t.Context(), testApp, Request{Path: k.endpoint, Body: []byte(k.body)})
	want := row.want
	if w, ok := row.except[k.name]; ok {
		want = w
	}
	if got := outcomeOf(err); got != want {
		t.Errorf("%s: %s (%v), want %s", k.name, got, err, want)
	}
	text := fmt.Sprintf("%v %+v", err, answer)
	wantNoSecrets(t, text)
	for _, secret := range []string{hostileCode, hostilePhone} {
		if strings.Contains(text, secret) {
			t.Errorf("%s: %s is in %s", k.name, secret, text)
		}
	}
	select {
	case <-s.gone:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: the connection with the excess bytes is still open", k.name)
	}
	next, err := client.Call(t.Context(), testApp, Request{Path: k.endpoint, Body: []byte(k.body)})
	if err != nil && !row.closesKept() || next.MsgID == "666" {
		t.Errorf("%s: the next call: %+v, %v", k.name, next, err)
	}
}

// closesKept reports whether the server closes a kept connection, on which the next call may
// then fail.
func (row hostileRow) closesKept() bool { return !row.linger }

// TestExcessBytesOnIdleConnection checks that bytes which arrive on an idle connection close
// it, and are neither logged nor taken for the next answer.
func TestExcessBytesOnIdleConnection(t *testing.T) {
	logged := standardLog(t)
	var conns atomic.Int64
	read, closed := make(chan struct{}), make(chan struct{})
	url := rawServer(t, func(c net.Conn) {
		r := bufio.NewReader(c)
		first := conns.Add(1) == 1
		for {
			if _, err := readRequest(r); err != nil {
				return
			}
			writeOK(c)
			if first {
				<-read
				_, _ = io.WriteString(c, http200(`{"errcode":0,"errmsg":"ok","msgid":666,"x":"`+testText+`"}`))
				_, _ = io.Copy(io.Discard, r)
				close(closed)
				return
			}
		}
	})
	c := testClient(t, url, 10*time.Second)
	for i := range 2 {
		answer, err := c.Call(t.Context(), testApp, Request{Path: EndpointSubscribe, Body: []byte(testBody)})
		if err != nil || answer.MsgID != "" {
			t.Fatalf("call %d: %+v, %v", i, answer, err)
		}
		if i == 0 {
			close(read)
			<-closed
		}
	}
	if text := logged.String(); text != "" || conns.Load() != 2 {
		t.Errorf("%d connections, logged: %s", conns.Load(), text)
	}
}

// TestSlowDrip checks that an answer sent byte by byte ends at the timeout.
func TestSlowDrip(t *testing.T) {
	url := rawServer(t, func(c net.Conn) {
		if _, err := readRequest(bufio.NewReader(c)); err != nil {
			return
		}
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
		for err := error(nil); err == nil; time.Sleep(time.Millisecond) { // one byte per millisecond
			_, err = io.WriteString(c, " ")
		}
	})
	for _, k := range kinds() {
		started := time.Now()
		_, err := testClient(t, url, 200*time.Millisecond).Call(t.Context(), testApp, Request{Path: k.endpoint, Body: []byte(k.body)})
		if outcomeOf(err) != connectionLost || !errors.Is(err, context.DeadlineExceeded) || time.Since(started) > 5*time.Second {
			t.Errorf("%s: %v after %v", k.name, err, time.Since(started))
		}
	}
}
