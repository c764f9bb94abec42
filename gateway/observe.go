package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/problem"
)

// exchange is what the handlers of one request tell each other.
type exchange struct {
	route  string // the pattern that matched
	key    string // id of the key
	body   *body  // nil: none
	answer answer
}

// noRoute is the route of requests for which there is none.
const noRoute = "other"

type exchangeKey struct{}

// exchangeOf returns the exchange of a request.
func exchangeOf(ctx context.Context) *exchange {
	e, _ := ctx.Value(exchangeKey{}).(*exchange)
	return e
}

// observed counts requests and logs them, without their query: it may have secrets. A panic is
// answered with status 500.
func (g *Gateway) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start, logged := time.Now(), g.deps.Log.Enabled(r.Context(), slog.LevelDebug)
		e := &exchange{route: noRoute, answer: answer{ResponseWriter: w}}
		defer func() {
			took := time.Since(start)
			g.metrics.count(e.route, e.answer.status(), took)
			if logged {
				g.deps.Log.Debug("request", "method", r.Method, "route", e.route, "path", apikey.Redact(loggedPath(r.URL.Path)),
					"code", e.answer.status(), "bytes", e.answer.bytes, "took", took, "key", e.key)
			}
		}()
		defer func() {
			if p := recover(); p != nil {
				g.recovered(e, p)
			}
		}()
		next.ServeHTTP(&e.answer, r.WithContext(context.WithValue(r.Context(), exchangeKey{}, e)))
	})
}

// consentsPath is the root of the paths that contain the openid of a person.
const consentsPath = "/v1/consents/"

// loggedPath returns a path without an openid.
func loggedPath(path string) string {
	if rest, ok := strings.CutPrefix(path, consentsPath); ok {
		if app, _, person := strings.Cut(rest, "/"); person {
			return consentsPath + app + "/{openid}"
		}
	}
	return path
}

// recovered answers a request whose handler panicked. The value of the panic is not logged, since
// it may have values of the request; its type and the stack are.
func (g *Gateway) recovered(e *exchange, p any) {
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // net/http closes the connection
	}
	g.deps.Log.Error("a request panicked", "route", e.route, "err", fmt.Sprintf("panic: %T", p), "stack", string(debug.Stack()))
	if e.answer.code != 0 {
		panic(http.ErrAbortHandler) // a part was sent: the client must not take it for the whole
	}
	problem.New(http.StatusInternalServerError, "the request failed; the log of the gateway has the reason").Write(&e.answer)
}

// answer is a http.ResponseWriter that keeps what was answered. Each write has a deadline, so that
// a client that does not read is not waited for.
type answer struct {
	http.ResponseWriter
	code  int // 0: nothing yet
	bytes int64
}

// status returns the status of the answer.
func (a *answer) status() int {
	if a.code == 0 {
		return http.StatusOK // as net/http answers
	}
	return a.code
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) {
	if a.code == 0 && code >= http.StatusOK {
		a.code = code
	}
	a.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.code == 0 {
		a.code = http.StatusOK
	}
	a.extend()
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// FlushError sends what is buffered.
func (a *answer) FlushError() error {
	a.extend()
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (a *answer) Flush() { _ = a.FlushError() }

// Unwrap returns the writer, for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *answer) extend() {
	_ = http.NewResponseController(a.ResponseWriter).SetWriteDeadline(time.Now().Add(stallTimeout)) // else there is none
}
