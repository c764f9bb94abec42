package sandbox

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"time"
)

// respond gives a judged call its answer, or none.
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
			s.unlockOpenID(x)
			reset(w)
			return
		case effectNone, effectRefuse, effectRevoke, effectSlow, effectRisky, effectGarbage, effectBadGateway, effectCut:
		}
	}
	answer := s.buildReply(x)
	if !s.delay(r.Context(), x) {
		panic(http.ErrAbortHandler)
	}
	s.unlockOpenID(x) // before the answer, so that a caller who sends again at once does not meet its own last call
	if x.accepted && x.fault.effect == effectCut {
		answer.cut(w)
		return
	}
	s.recordAnswer(x, time.Since(started), true) // before the caller can ask for it
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

// delay lets the latency pass; false when the caller has gone.
func (s *Server) delay(ctx context.Context, x *exchange) bool {
	s.mu.Lock()
	wait := s.state.latency
	s.mu.Unlock()
	if x.fault.effect == effectSlow {
		wait += slowDelay
	}
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
	_, _ = w.Write(p.body) // a caller who has gone is no business of ours
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

// cut promises the whole body and ends the connection in its middle.
func (p reply) cut(w http.ResponseWriter) {
	p.writeHeader(w)
	_, _ = w.Write(p.body[:len(p.body)/2])
	_ = http.NewResponseController(w).Flush() // where it is not supported, nothing at all arrives
	panic(http.ErrAbortHandler)
}

// reset ends the connection with a TCP reset; where that cannot be had (HTTP/2), with whatever the server has.
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
