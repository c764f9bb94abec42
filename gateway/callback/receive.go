package callback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"sync"
	"time"

	"github.com/wxcourier/wxcourier/wechat/callback"
)

// writeTimeout is for a client to take its answer.
const writeTimeout = 5 * time.Second

// request is one request to the callback URL of an app.
type request struct {
	*http.Request
	app     string
	keys    callback.Keys
	query   url.Values
	began   time.Time
	release func() // gives the slot back
}

// answer is what a request is answered, and how it is counted.
type answer struct {
	result      string
	status      int
	contentType string
	body        []byte
}

// ServeHTTP answers WeChat's requests, and all others with status 404 or 405.
//
// The read deadline is for refused requests too: net/http reads the rest of their bodies before it sends
// the answer, and has no deadline of its own for that.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(r.tuning.body))
	_ = control.SetWriteDeadline(time.Time{}) // the previous request of the connection left its own
	r.mux.ServeHTTP(w, req)
}

// observed finds the keys, checks the age, and counts the requests of one method. A panic is answered
// with status 500; its value is not logged, since it may have a part of the push.
func (r *Receiver) observed(next func(w http.ResponseWriter, q request) answer) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		q := request{Request: req, app: req.PathValue("app"), query: req.URL.Query(), began: time.Now()}
		var known bool
		if q.keys, known = r.deps.Keys(q.app); !known {
			q.app = otherApp
		}
		a := answer{result: resultPanic, status: http.StatusInternalServerError}
		defer func() {
			if p := recover(); p != nil {
				r.deps.Log.Error("a push panicked", "app", q.app, "err", fmt.Sprintf("panic: %T", p), "stack", string(debug.Stack()))
			}
			r.finish(w, q, a)
		}()
		switch {
		case !known:
			a = refusal(resultUnknown, http.StatusNotFound)
		case callback.CheckAge(q.query, q.began, r.deps.MaxAge) != nil:
			a = refusal(resultAge, http.StatusForbidden)
		default:
			a = next(w, q)
		}
	}
}

// finish counts a request and writes its answer.
func (r *Receiver) finish(w http.ResponseWriter, q request, a answer) {
	took := time.Since(q.began)
	r.metrics.request(q.app, a.result, took)
	if a.status >= http.StatusBadRequest {
		if q.app != otherApp && r.warned.first(q.app+" "+a.result) {
			r.deps.Log.Warn("a push was refused", "app", q.app, "result", a.result, "code", a.status)
		}
		a.contentType, a.body = "text/plain; charset=utf-8", []byte(http.StatusText(a.status)+"\n")
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // else there is none
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// refusal is the answer to a request that is refused.
func refusal(result string, status int) answer { return answer{result: result, status: status} }

// success is the answer to a push that needs no reply.
func success(result string) answer {
	return answer{result: result, status: http.StatusOK, contentType: "text/plain; charset=utf-8", body: []byte(callback.Success)}
}

// verifyURL answers the request by which WeChat checks the URL, when an operator enters it.
func (r *Receiver) verifyURL(_ http.ResponseWriter, q request) answer {
	if q.keys.VerifyQuery(q.query) != nil {
		return refusal(resultSignature, http.StatusForbidden)
	}
	a := success(resultVerified)
	a.body = []byte(q.query.Get("echostr"))
	return a
}

// receive answers a push. The signature of the query, which WeChat sends in every mode, is verified
// before anything is read: only a sender that has the token takes a slot and has its body read.
func (r *Receiver) receive(w http.ResponseWriter, q request) answer {
	if q.keys.VerifyQuery(q.query) != nil {
		return refusal(resultSignature, http.StatusForbidden)
	}
	select {
	case r.slots <- struct{}{}:
		q.release = sync.OnceFunc(func() { <-r.slots })
		defer q.release()
	default:
		return refusal(resultBusy, http.StatusServiceUnavailable)
	}
	body, refused := r.read(w, q)
	if body == nil {
		return refused
	}
	m, err := q.keys.Open(q.query, body)
	if err != nil {
		return refusalOf(err)
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(q.Context()), q.began.Add(r.tuning.answer))
	defer cancel()
	return r.push(ctx, q, m)
}

// read reads the body. It is nil if the request is refused.
func (r *Receiver) read(w http.ResponseWriter, q request) ([]byte, answer) {
	if q.ContentLength > callback.DefaultMaxBody {
		return nil, refusal(resultLarge, http.StatusRequestEntityTooLarge)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, q.Body, callback.DefaultMaxBody))
	if err == nil { // the deadline would end the request's context
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, refusal(resultLarge, http.StatusRequestEntityTooLarge)
	case err != nil:
		return nil, refusal(resultClient, http.StatusBadRequest)
	case len(body) == 0:
		return nil, refusal(resultFormat, http.StatusBadRequest)
	}
	return body, answer{}
}

// refusalOf returns the answer to a push that cannot be opened.
func refusalOf(err error) answer {
	for _, c := range []struct {
		err    error
		result string
		status int
	}{
		{callback.ErrSignature, resultSignature, http.StatusForbidden},
		{callback.ErrPlain, resultPlain, http.StatusForbidden},
		{callback.ErrApp, resultApp, http.StatusForbidden},
		{callback.ErrDecrypt, resultDecrypt, http.StatusBadRequest},
	} {
		if errors.Is(err, c.err) {
			return refusal(c.result, c.status)
		}
	}
	return refusal(resultFormat, http.StatusBadRequest)
}

// push stores what is handled, and forwards what is to be forwarded.
func (r *Receiver) push(ctx context.Context, q request, m callback.Message) answer {
	p, err := callback.Parse(m.Body)
	to, forwarded := r.deps.Forward(q.app)
	if err != nil && !forwarded {
		return refusal(resultFormat, http.StatusBadRequest)
	}
	identity := p.Identity(m.Body)
	a := success(resultIgnored)
	if p.Handled() {
		if a = r.store(ctx, q.app, identity, p); a.status != http.StatusOK {
			return a
		}
		forwarded = forwarded && to.All
	}
	if !forwarded {
		return a
	}
	return r.forward(ctx, q, to, identity, m)
}

// store stores a push for the handlers.
func (r *Receiver) store(ctx context.Context, app, identity string, p callback.Push) answer {
	text, err := json.Marshal(p)
	if err != nil {
		return refusal(resultFormat, http.StatusBadRequest)
	}
	fresh, err := r.rounds.store(ctx, &entry{app: app, identity: identity, text: text})
	switch {
	case err != nil:
		if r.warned.first("redis") {
			r.deps.Log.Error("pushes cannot be stored; WeChat repeats them twice within some seconds", "err", err)
		}
		return refusal(resultRedis, http.StatusServiceUnavailable)
	case !fresh:
		return success(resultDuplicate)
	}
	r.wake(app)
	return success(resultStored)
}
