package sandbox

import (
	"context"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/internal/httpguard"
	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
	"github.com/wxcourier/wxcourier/sandbox/internal/recent"
)

// Server is the fake WeChat. It is an http.Handler and safe for concurrent use.
type Server struct {
	opts    Options
	rows    map[string]*endpoint
	faults  map[string]faultRow
	limits  limitTable
	env     *checkEnv
	control http.Handler
	seed    maphash.Seed
	pushes  *pusher

	pushFaults map[string]pushFaultRow

	pictures madeup.Pictures

	mu     sync.Mutex // guards the fields below and everything they point to
	state  *state
	serial uint64 // number of the latest call; Reset does not change it
}

// checkEnv is what the checks of request bodies depend on.
type checkEnv struct {
	now          func() time.Time
	pages        map[string]bool // nil: every page exists
	paths        map[string]bool // the endpoints
	allowUniform bool
	values       valueRules
	rid          *regexp.Regexp // the form of a request id
	field        *regexp.Regexp // a field in a template's content
}

// state is cleared by Reset.
type state struct {
	apps             map[string]*appState
	providers        map[string]*provider
	tokens           map[string]*token
	blocked          map[string]bool   // by app: the caller's IP is not on its list; "" is all apps
	secrets          map[string]string // by app, where SetSecret has set it; else Options.Apps
	latency          time.Duration
	random           *rand.Rand
	rules            ruleList[Fault, faultRow]
	pushRules        ruleList[PushFault, pushFaultRow]
	pushEvents       uint64                // events so far, for the rates of pushRules
	prefixFaultCalls *recent.Counts        // calls by a faultSource that names a fault
	sendingTo        map[uint64]struct{}   // locked openids, see lockOpenID
	credits          map[uint64]int        // subscriptions left, if set by SetCredits or used
	templates        map[string][]Template // by app, where SetTemplates has set them
	sent             recent.Keys[int64]    // ids of messages by their client_msg_id
	redeemedCodes    recent.Keys[struct{}] // used codes of logins and phone numbers; WeChat's expire after five minutes
	log              *callLog
}

// appState is the state of one app.
type appState struct {
	id          string
	tokens      appTokens
	usage       map[string]*usage         // by limit row
	callWindows map[string]*recent.Window // by path
	clearMonth  string                    // the month that clears belongs to
	clears      int
}

// maxApps bounds the memory that clients with invented app ids can use.
const maxApps = 1000

// New returns a sandbox; it does no I/O. It panics if one of Options.Callbacks is invalid, see [Callback.Validate].
func New(opts Options) *Server {
	opts = opts.withDefaults()
	s := &Server{opts: opts, rows: map[string]*endpoint{}, faults: map[string]faultRow{}, limits: newLimitTable(opts), seed: maphash.MakeSeed()}
	s.pushes, s.pushFaults = newPusher(opts), map[string]pushFaultRow{}
	s.env = &checkEnv{now: opts.Clock, paths: map[string]bool{}, allowUniform: opts.AllowUniform, values: newValueRules(), rid: newRIDPattern(), field: newFieldPattern()}
	if opts.Pages != nil {
		s.env.pages = map[string]bool{}
		for _, page := range opts.Pages {
			s.env.pages[strings.TrimPrefix(page, "/")] = true
		}
	}
	for _, row := range slices.Concat(endpoints(), componentEndpoints()) {
		s.rows[row.path] = &row
		s.env.paths[row.path] = true
	}
	for _, row := range faultRows() {
		s.faults[row.name] = row
	}
	for _, row := range pushFaultRows() {
		s.pushFaults[row.name] = row
	}
	s.control = s.controlAPI()
	s.state = newState(opts)
	return s
}

func newState(opts Options) *state {
	return &state{
		apps:             map[string]*appState{},
		providers:        map[string]*provider{},
		tokens:           map[string]*token{},
		blocked:          map[string]bool{},
		secrets:          map[string]string{},
		latency:          opts.Latency,
		random:           newRandom(opts.Seed),
		prefixFaultCalls: recent.NewCounts(opts.KeepMessages),
		sendingTo:        map[uint64]struct{}{},
		credits:          map[uint64]int{},
		templates:        map[string][]Template{},
		sent:             recent.Keys[int64]{Span: dedupeSpan},
		redeemedCodes:    recent.Keys[struct{}]{Span: dedupeSpan},
		log:              newCallLog(opts),
	}
}

// Reset clears tokens, quotas, credits, templates, faults, blocked IPs, changed secrets, the call log, and the pushes with their log. It
// resets the latency and the callbacks to those of the options.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = newState(s.opts)
	s.pushes.reset(callbackTargets(s.opts.Callbacks))
}

// SetLatency sets the delay of every answer from now on.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.latency = d
}

// ServeHTTP serves WeChat's endpoints and, under /sandbox/, the control API, without access checks; see [Server.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if row, ok := s.rows[r.URL.Path]; ok {
		serve := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, row) })
		if !s.secured(w, r, serve) {
			serve(w, r)
		}
		return
	}
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.control.ServeHTTP(w, r)
		return
	}
	unknown := endpoint{path: "(unknown)", method: r.Method, decode: decodeNothing, identify: identifyNone}
	s.serve(w, r, &unknown)
}

// controlPrefix is the path prefix of the control API.
const controlPrefix = "/sandbox/"

// Handler returns the handler for a listener at an address such as "127.0.0.1:8090" or ":8090". Its control API rejects
// requests that a browser sends for another website: those from another origin, and those for a host name that is neither the
// listener's (on loopback: localhost and loopback addresses; elsewhere any IP address and any name without a dot) nor one of
// hosts. WeChat's endpoints accept any host name, since clients use container and service names.
func (s *Server) Handler(address string, hosts ...string) http.Handler {
	guarded := httpguard.New(address, hosts...).Protect(s)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, controlPrefix) {
			guarded.ServeHTTP(w, r)
			return
		}
		s.ServeHTTP(w, r)
	})
}

func decodeNothing(*http.Request, []byte) (request, *refusal) { return nil, refuse(40066) }

func identifyNone(_ *Server, x *exchange) *refusal { return x.bodyRefusal }

// Start serves the sandbox on a free port of 127.0.0.1, as httptest does, until stop is called, which also does what Close
// does. It panics if it cannot listen.
func (s *Server) Start() (url string, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		cancel()
		panic(fmt.Sprintf("sandbox: cannot listen: %v", err))
	}
	server := &http.Server{
		Handler:           s.Handler(listener.Addr().String()),
		ReadHeaderTimeout: 30 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // canceled by stop, which ends hanging calls
	}
	s.pushes.open()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // returns after Close
	}()
	return "http://" + listener.Addr().String(), sync.OnceFunc(func() {
		cancel()
		_ = server.Close()
		<-done
		s.Close()
	})
}

// findApp returns the state of an app, and creates it if the options accept the app. The caller holds s.mu.
func (s *Server) findApp(id string) (*appState, bool) {
	if a, ok := s.state.apps[id]; ok {
		return a, true
	}
	if _, listed := s.opts.Apps[id]; !listed && (s.opts.Apps != nil || len(s.state.apps) >= maxApps || len(id) > 64) {
		return nil, false
	}
	a := newAppState(id)
	s.state.apps[id] = a
	return a, true
}

func newAppState(id string) *appState {
	return &appState{id: id, tokens: newAppTokens(), usage: map[string]*usage{}, callWindows: map[string]*recent.Window{}}
}

func (a *appState) usageOf(row string) *usage {
	u := a.usage[row]
	if u == nil {
		u = &usage{}
		a.usage[row] = u
	}
	return u
}

func (a *appState) callWindow(path string) *recent.Window {
	w := a.callWindows[path]
	if w == nil {
		w = &recent.Window{}
		a.callWindows[path] = w
	}
	return w
}
