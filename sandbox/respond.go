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
	begun := time.Now()
	defer func() { s.settle(x, time.Since(begun), false) }()
	defer s.leaveOpenID(x)
	if x.no == nil {
		switch x.fault.manner {
		case mannerHang, mannerHangAfter:
			s.leaveOpenID(x)
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case mannerReset, mannerLost:
			s.leaveOpenID(x)
			reset(w)
			return
		case mannerNone, mannerRefuse, mannerRevoke, mannerSlow, mannerRisky, mannerGarbage, mannerBadGateway, mannerCut:
		}
	}
	answer := s.compose(x)
	if !s.pause(r.Context(), x) {
		panic(http.ErrAbortHandler)
	}
	s.leaveOpenID(x) // before the answer, so that a caller who sends again at once does not meet its own last call
	if x.accepted && x.fault.manner == mannerCut {
		answer.cut(w)
		return
	}
	s.settle(x, time.Since(begun), true) // before the caller can ask for it
	answer.write(w)
}

func (s *Server) compose(x *exchange) reply {
	switch {
	case x.no != nil:
		return jsonReply(plainAnswer{x.no.code, x.no.msg})
	case x.accepted:
		return x.row.answer(s, x)
	case x.fault.manner == mannerBadGateway:
		return htmlReply(http.StatusBadGateway, "502 Bad Gateway")
	default:
		return htmlReply(http.StatusOK, "Welcome")
	}
}

// pause lets the latency pass; false when the caller has gone.
func (s *Server) pause(ctx context.Context, x *exchange) bool {
	s.mu.Lock()
	wait := s.state.latency
	s.mu.Unlock()
	if x.fault.manner == mannerSlow {
		wait += slowness
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
	p.head(w)
	_, _ = w.Write(p.body) // a caller who has gone is no business of ours
}

func (p reply) head(w http.ResponseWriter) {
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
	p.head(w)
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
