package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// maxBody bounds a request body in bytes. The largest documented request has an image of 1 MB; WeChat's front-end servers
// answer larger bodies with 413.
const maxBody = 2 << 20

// exchange is the state of one call: received, processed, answered.
type exchange struct {
	row           *endpoint
	path          string // as requested; row.path differs for an unknown path
	remote        string
	tokenValue    string
	body          []byte
	req           request  // nil when the method was wrong
	methodRefusal *refusal // set for a wrong method, before the token is checked
	bodyRefusal   *refusal // set for an invalid body

	// Set by process.
	at          time.Time
	app         *appState
	token       *token
	tokenLeft   time.Duration
	fault       activeFault
	refusal     *refusal // nil if the call was accepted, or a fault left it without a decision
	accepted    bool
	repeated    bool // accepted, but the person was sent the same message before
	holdsOpenID bool // its openid is locked
	serial      uint64
	msgID       int64
	numUsed     int64
	quota       quotaFigures
	foundCall   *Call // the call that the requested rid identifies
	pushes      []*queuedPush
}

func (x *exchange) openid() string {
	if x.req == nil {
		return ""
	}
	return x.req.receiver()
}

func (x *exchange) template() string {
	if x.req == nil {
		return ""
	}
	return x.req.template()
}

// serve handles a call.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, row *endpoint) {
	x, err := s.receive(w, r, row)
	if err != nil {
		writeReadError(w, err)
		return
	}
	s.process(x)
	s.pushEarly(x)
	if x.fault.effect == effectHangAfter {
		s.pushAfter(x) // the answer never comes
	}
	defer s.pushAfter(x)
	s.respond(w, r, x)
}

// receive reads and decodes a request, without holding s.mu.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, row *endpoint) (*exchange, error) {
	if r.ContentLength < 0 {
		return nil, errNoLength
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, err
	}
	x := &exchange{row: row, path: r.URL.Path, remote: r.RemoteAddr, body: body}
	if r.Method != row.method {
		x.methodRefusal = refuse(43002)
		if row.method == http.MethodGet {
			x.methodRefusal = refuse(43001)
		}
		return x, nil
	}
	if !row.secret {
		x.tokenValue = r.URL.Query().Get("access_token")
	}
	x.req, x.bodyRefusal = row.decode(r, body)
	if x.bodyRefusal == nil {
		x.bodyRefusal = x.req.check(s.env)
	}
	return x, nil
}

// errNoLength means that a request has no Content-Length (Transfer-Encoding: chunked).
var errNoLength = errors.New("sandbox: a request without Content-Length")

func writeReadError(w http.ResponseWriter, err error) {
	if errors.Is(err, errNoLength) {
		htmlReply(http.StatusPreconditionFailed, "412 Precondition Failed").write(w)
		return
	}
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &tooLarge) {
		panic(http.ErrAbortHandler) // the client disconnected while sending
	}
	htmlReply(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large").write(w)
}

// process evaluates a call and records it in the call log, atomically.
func (s *Server) process(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	s.serial++
	x.serial, x.at = s.serial, s.opts.Clock()
	if x.refusal = s.evaluate(x); x.refusal != nil {
		x.refusal = &refusal{x.refusal.code, x.refusal.msg + " rid: " + rid(x.at, x.serial)}
	}
	if x.token != nil {
		x.tokenLeft = x.token.expires.Sub(x.at)
	}
	st.log.record(s, x)
	if x.accepted && !x.repeated && x.row.event != nil {
		x.pushes = s.planEvent(x.event())
	}
}

// event returns what the app is told of an accepted call.
func (x *exchange) event() event {
	e := x.row.event(x)
	e.app, e.openid, e.template, e.at = x.app.id, x.openid(), x.template(), x.at
	return e
}

// evaluate checks the reasons to refuse a call, in the order that WeChat presumably uses: identity, limits, content. If there
// is none it carries out the call.
func (s *Server) evaluate(x *exchange) *refusal {
	if x.methodRefusal != nil {
		return x.methodRefusal
	}
	if refused := x.row.identify(s, x); refused != nil {
		return refused
	}
	x.app.callWindow(x.row.path).Add(x.at)
	if refused := s.limits.count(x.app, x.row.path, x.at); refused != nil {
		return refused
	}
	x.fault = s.faultFor(x)
	if refused, handled := s.applyFault(x); handled {
		return refused
	}
	if refused := s.lockOpenID(x); refused != nil {
		return refused
	}
	if x.bodyRefusal != nil {
		return x.bodyRefusal
	}
	if x.row.grant != nil {
		if refused := x.row.grant(s, x); refused != nil {
			return refused
		}
	}
	x.accepted = true
	return nil
}

// applyFault applies a fault that keeps the call from being accepted; handled reports whether it did.
func (s *Server) applyFault(x *exchange) (refused *refusal, handled bool) {
	switch x.fault.effect {
	case effectRefuse:
		refused = refuse(x.fault.code)
		if x.fault.text != "" {
			refused.msg = x.fault.text
		}
		return refused, true
	case effectRevoke:
		if x.token != nil {
			x.token.revoked = true
		}
		return refuse(40001), true
	case effectRisky:
		refused = refuseRisky(x)
		return refused, refused != nil
	case effectHang, effectReset, effectGarbage, effectBadGateway:
		return nil, true
	case effectNone, effectSlow, effectLost, effectHangAfter, effectCut:
	}
	return nil, false
}

// lockOpenID locks the receiver of an exclusive endpoint until the answer, or returns 43108 if another call holds the lock.
func (s *Server) lockOpenID(x *exchange) *refusal {
	if !x.row.exclusive || s.opts.AllowConcurrent || x.openid() == "" {
		return nil
	}
	key := s.hashOf(x.app.id, x.row.path, x.openid())
	if _, busy := s.state.sendingTo[key]; busy {
		return refuse(43108)
	}
	s.state.sendingTo[key] = struct{}{}
	x.holdsOpenID = true
	return nil
}

func (s *Server) unlockOpenID(x *exchange) {
	if !x.holdsOpenID {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.holdsOpenID = false
	delete(s.state.sendingTo, s.hashOf(x.app.id, x.row.path, x.openid()))
}

// reply is an HTTP response.
type reply struct {
	status      int
	contentType string
	numUsed     int64 // header Num-Used, of codes with a lifetime quota; 0: no header
	body        []byte
}

func jsonReply(v any) reply {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // v is always one of this package's types, which encode
	}
	return reply{status: http.StatusOK, contentType: "application/json; encoding=utf-8", body: bytes.TrimSpace(buf.Bytes())}
}

func htmlReply(status int, title string) reply {
	page := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	return reply{status: status, contentType: "text/html", body: []byte(page)}
}
