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
	row        *endpoint
	path       string // as it was called, which an unknown row does not say
	remote     string
	tokenValue string
	body       []byte
	req        request  // nil when the method was wrong
	early      *refusal // found before anybody looks at the token
	flaw       *refusal // what is wrong with the body

	// Set by judge.
	at        time.Time
	account   *account
	token     *token
	tokenLeft time.Duration
	fault     met
	no        *refusal // the refusal, or nil when accepted or swallowed
	accepted  bool
	repeated  bool // accepted, but the person was sent the same message before
	entered   bool // its openid is held
	serial    uint64
	msgID     int64
	numUsed   int64
	quota     quotaFigures
	found     *Call // the call that a rid stands for
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
		answerUnread(w, err)
		return
	}
	s.judge(x)
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
		x.early = refuse(43002)
		if row.method == http.MethodGet {
			x.early = refuse(43001)
		}
		return x, nil
	}
	if !row.secret {
		x.tokenValue = r.URL.Query().Get("access_token")
	}
	x.req, x.flaw = row.decode(r, body)
	if x.flaw == nil {
		x.flaw = x.req.check(s.site)
	}
	return x, nil
}

// errNoLength means that a request does not say how long its body is (Transfer-Encoding: chunked).
var errNoLength = errors.New("sandbox: a request without Content-Length")

func answerUnread(w http.ResponseWriter, err error) {
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

// judge decides about a call and enters it in the ledger, in one step.
func (s *Server) judge(x *exchange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state
	s.serial++
	x.serial, x.at = s.serial, s.opts.Clock()
	if x.no = s.weigh(x); x.no != nil {
		x.no = &refusal{x.no.code, x.no.msg + " rid: " + rid(x.at, x.serial)}
	}
	if x.token != nil {
		x.tokenLeft = x.token.expires.Sub(x.at)
	}
	st.ledger.enter(s, x)
}

// weigh goes through the reasons to refuse a call, in the order in which WeChat is taken to look at them: who calls, how
// often, and then what.
func (s *Server) weigh(x *exchange) *refusal {
	if x.early != nil {
		return x.early
	}
	if no := x.row.identify(s, x); no != nil {
		return no
	}
	x.account.arrivals(x.row.path).add(x.at)
	if no := s.limits.take(x.account, x.row.path, x.at); no != nil {
		return no
	}
	x.fault = s.faultFor(x)
	if no, over := s.spoil(x); over {
		return no
	}
	if no := s.enterOpenID(x); no != nil {
		return no
	}
	if x.flaw != nil {
		return x.flaw
	}
	if x.row.grant != nil {
		if no := x.row.grant(s, x); no != nil {
			return no
		}
	}
	x.accepted = true
	return nil
}

// spoil applies a fault that keeps a call from being accepted; over says that it did.
func (s *Server) spoil(x *exchange) (no *refusal, over bool) {
	switch x.fault.manner {
	case mannerRefuse:
		no = refuse(x.fault.code)
		if x.fault.text != "" {
			no.msg = x.fault.text
		}
		return no, true
	case mannerRevoke:
		if x.token != nil {
			x.token.revoked = true
		}
		return refuse(40001), true
	case mannerRisky:
		no = refuseRisky(x)
		return no, no != nil
	case mannerHang, mannerReset, mannerGarbage, mannerBadGateway:
		return nil, true
	case mannerNone, mannerSlow, mannerLost, mannerHangAfter, mannerCut:
	}
	return nil, false
}

// enterOpenID holds the receiver of a serial endpoint until the answer, or refuses because somebody else holds it.
func (s *Server) enterOpenID(x *exchange) *refusal {
	if !x.row.serial || s.opts.AllowConcurrent || x.openid() == "" {
		return nil
	}
	key := s.hashOf(x.account.id, x.row.path, x.openid())
	if _, busy := s.state.sending[key]; busy {
		return refuse(43108)
	}
	s.state.sending[key] = struct{}{}
	x.entered = true
	return nil
}

func (s *Server) leaveOpenID(x *exchange) {
	if !x.entered {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x.entered = false
	delete(s.state.sending, s.hashOf(x.account.id, x.row.path, x.openid()))
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
