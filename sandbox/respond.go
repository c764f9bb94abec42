package sandbox

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"time"
)

// respond writes the answer to a processed call, or injects its connection fault.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, x *exchange) {
	started := time.Now()
	defer func() { s.recordAnswer(x, time.Since(started), false) }()
	defer s.unlockOpenID(x)
	if x.refusal == nil {
		switch x.fault.effect {
		case effectHang, effectHangAfter:
			s.unlockOpenID(x)
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case effectReset, effectLost:
			if !s.delay(r.Context(), x.fault.delay) {
				panic(http.ErrAbortHandler)
			}
			s.unlockOpenID(x)
			reset(w)
			return
		case effectNone, effectRefuse, effectRevoke, effectSlow, effectRisky, effectGarbage, effectBadGateway, effectCut:
		}
	}
	answer := s.buildReply(x)
	if !s.delay(r.Context(), s.latency()+x.fault.delay) {
		panic(http.ErrAbortHandler)
	}
	s.unlockOpenID(x) // before the answer, else the client's next call could get 43108
	if x.accepted && x.fault.effect == effectCut {
		answer.cut(w)
		return
	}
	s.recordAnswer(x, time.Since(started), true) // before the client can query the call log
	answer.write(w)
}

func (s *Server) buildReply(x *exchange) reply {
	switch {
	case x.refusal != nil:
		return jsonReply(plainAnswer{x.refusal.code, x.refusal.msg})
	case x.accepted:
		return x.row.answer(s, x)
	case x.fault.effect == effectBadGateway:
		return htmlReply(http.StatusBadGateway, "502 Bad Gateway")
	default:
		return htmlReply(http.StatusOK, "Welcome")
	}
}

// latency returns the delay of every answer.
func (s *Server) latency() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.latency
}

// delay waits; it returns false if the client disconnects.
func (s *Server) delay(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p reply) write(w http.ResponseWriter) {
	p.writeHeader(w)
	_, _ = w.Write(p.body) // fails only if the client has disconnected
}

func (p reply) writeHeader(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", p.contentType)
	h.Set("Content-Length", strconv.Itoa(len(p.body)))
	if p.numUsed > 0 {
		h.Set("Num-Used", strconv.FormatInt(p.numUsed, 10))
	}
	w.WriteHeader(p.status)
}

// cut announces the whole body, writes half of it and closes the connection.
func (p reply) cut(w http.ResponseWriter) {
	p.writeHeader(w)
	_, _ = w.Write(p.body[:len(p.body)/2])
	_ = http.NewResponseController(w).Flush() // if Flush is not supported, the client gets nothing
	panic(http.ErrAbortHandler)
}

// reset closes the connection with a TCP reset; if that is impossible (HTTP/2), it aborts the handler.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	inner := conn
	if secured, ok := conn.(*tls.Conn); ok {
		inner = secured.NetConn()
	}
	if tcp, ok := inner.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = inner.Close()
}
