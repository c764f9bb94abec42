package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"
)

// maxBody is more than any documented request needs (an image of 1 MB); beyond it WeChat's front door answers 413.
const maxBody = 2 << 20

// exchange is one call on its way through: received, judged, answered.
type exchange struct {
	row           *endpoint
	path          string // as it was called, which an unknown row does not say
	remote        string
	tokenValue    string
	body          []byte
	req           request  // nil when the method was wrong
	methodRefusal *refusal // found before anybody looks at the token
	bodyRefusal   *refusal // what is wrong with the body

	// Set by judge.
	at          time.Time
	app         *appState
	token       *token
	tokenLeft   time.Duration
	fault       activeFault
	refusal     *refusal // the refusal, or nil when accepted or swallowed
	accepted    bool
	repeated    bool // accepted, but the person was sent the same message before
	holdsOpenID bool // its openid is held
	serial      uint64
	msgID       int64
	numUsed     int64
	quota       quotaFigures
	foundCall   *Call // the call that a rid stands for
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

// serve is the way of every call.
func (s *Server) serve(w http.ResponseWriter, r *http.Request, row *endpoint) {
	x, err := s.receive(w, r, row)
	if err != nil {
		writeReadError(w, err)
		return
	}
	s.process(x)
	s.respond(w, r, x)
}

// receive reads and decodes a request; all of that needs no lock.
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

// errNoLength means that a request does not say how long its body is (Transfer-Encoding: chunked).
var errNoLength = errors.New("sandbox: a request without Content-Length")

func writeReadError(w http.ResponseWriter, err error) {
	if errors.Is(err, errNoLength) {
		htmlReply(http.StatusPreconditionFailed, "412 Precondition Failed").write(w)
		return
	}
	var tooLarge *http.MaxBytesError
	if !errors.As(err, &tooLarge) {
		panic(http.ErrAbortHandler) // the caller left in the middle of its request
	}
	htmlReply(http.StatusRequestEntityTooLarge, "413 Request Entity Too Large").write(w)
}

// process decides about a call and enters it in the ledger, in one step.
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
}

// evaluate goes through the reasons to refuse a call, in the order in which WeChat is taken to look at them: who calls, how
// often, and then what.
func (s *Server) evaluate(x *exchange) *refusal {
	if x.methodRefusal != nil {
		return x.methodRefusal
	}
	if refused := x.row.identify(s, x); refused != nil {
		return refused
	}
	x.app.callWindow(x.row.path).add(x.at)
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

// applyFault applies a fault that keeps a call from being accepted; over says that it did.
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

// lockOpenID holds the receiver of a serial endpoint until the answer, or refuses because somebody else holds it.
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

// reply is what goes over the wire.
type reply struct {
	status      int
	contentType string
	numUsed     int64 // of the codes whose number is limited; 0 is not shown
	body        []byte
}

func jsonReply(v any) reply {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // only types of this package get here, and they encode
	}
	return reply{status: http.StatusOK, contentType: "application/json; encoding=utf-8", body: bytes.TrimSpace(buf.Bytes())}
}

func htmlReply(status int, title string) reply {
	page := "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + title + "</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
	return reply{status: status, contentType: "text/html", body: []byte(page)}
}
