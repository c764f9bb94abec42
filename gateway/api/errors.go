package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/redis/go-redis/v9"

	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/tasks"
)

// useProblems makes huma answer errors as problems, without the values that it echoes by default:
// they may be openids or texts of messages. huma has these settings for the process only.
var useProblems = sync.OnceFunc(func() {
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		p := problem.New(status, detail)
		for _, err := range errs {
			var own *problem.Problem
			var detailed huma.ErrorDetailer
			switch {
			case errors.As(err, &own): // of a resolver, such as body
				return own
			case errors.As(err, &detailed):
				p.Errors = append(p.Errors, faultOf(detailed.ErrorDetail()))
			}
		}
		return p
	}
	huma.ErrorFormatter = func(format string, a ...any) string {
		return fmt.Sprintf(withoutCause(format), a...)
	}
})

// withoutCause removes the error of a parser from the format of one of huma's messages: such an
// error quotes the value.
func withoutCause(format string) string {
	format, _ = strings.CutSuffix(format, ": %v")
	return format
}

// maxLocation is the length of a location in a problem, in bytes: it contains names that the
// client chose.
const maxLocation = 200

// faultOf returns huma's description of a fault without values.
func faultOf(d *huma.ErrorDetail) problem.Fault {
	f := problem.Fault{Location: strings.ToValidUTF8(d.Location[:min(len(d.Location), maxLocation)], ""), Message: d.Message}
	switch _, text := d.Value.(string); {
	case d.Location == "body" && text: // the whole body; the message is that of encoding/json
		f.Message = "must be JSON in the documented form"
	case strings.HasPrefix(d.Message, "invalid value: "):
		if cause := strings.TrimPrefix(d.Message, "invalid value: "); !strings.HasPrefix(cause, ownFault) {
			f.Message = "invalid value"
		} else {
			f.Message = cause
		}
	}
	return f
}

// ownFault begins the errors of our own types of parameters, which do not contain the value.
const ownFault = "must be "

// Retry-After of a 503, in seconds.
const (
	retryAway = "1"
	retryFull = "10"
)

// problemOf returns the problem for the error of an operation, with a Retry-After header where
// repeating helps. An error that is not known is logged, and answered with status 500.
func (a *API) problemOf(ctx context.Context, err error) error {
	if complete := huma.HeadersError(nil); errors.As(err, &complete) {
		return err
	}
	p, retryAfter := describe(err)
	switch {
	case ctx.Err() != nil: // the client has gone, or the server shuts down
	case p.Status == http.StatusInternalServerError:
		a.Log.Error("a request failed", slog.Any("err", err))
	case retryAfter != "":
		a.away.warn(a.Log, err)
	}
	if retryAfter == "" {
		return p
	}
	return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {retryAfter}})
}

// describe returns the problem for an error, and how long to wait before repeating.
func describe(err error) (p *problem.Problem, retryAfter string) {
	p, retryAfter = describeCause(err)
	if unsafe := (unsafeError{}); retryAfter != "" && !errors.As(err, &unsafe) {
		p.Detail += "; repeat the request, which is safe"
	} else if retryAfter != "" {
		p.Detail += "; the task has no id and may be enqueued: repeating the request may send it twice"
	}
	return p, retryAfter
}

func describeCause(err error) (p *problem.Problem, retryAfter string) {
	var invalid *tasks.ValidationError
	switch {
	case errors.As(err, &p):
		return p, ""
	case errors.As(err, &invalid):
		p = problem.New(http.StatusUnprocessableEntity, "the task is not valid")
		for _, f := range invalid.Fields {
			p.Errors = append(p.Errors, problem.Fault{Location: location(f.Path), Message: withoutValue(f.Problem)})
		}
		return p, ""
	case errors.Is(err, tasks.ErrIDInUse):
		return problem.New(http.StatusConflict, "a task of another type has this id: an id is unique within its app",
			problem.Fault{Location: "id", Message: "in use"}), ""
	case errors.Is(err, tasks.ErrNotFound):
		return problem.New(http.StatusNotFound, "no such task: the id was never enqueued, or its result is no longer kept"), ""
	case errors.Is(err, tasks.ErrRedisFull), redis.HasErrorPrefix(err, "OOM "):
		return problem.New(http.StatusServiceUnavailable,
			"Redis is out of memory (its maxmemory), and takes no tasks until some are delivered or the limit is raised"), retryFull
	case errors.Is(err, errBusy):
		return problem.New(http.StatusServiceUnavailable, "too many tasks wait to be enqueued"), retryAway
	case redisAway(err):
		return problem.New(http.StatusServiceUnavailable, "Redis does not answer"), retryAway
	}
	return problem.New(http.StatusInternalServerError, "the request failed; the log of the gateway has the reason"), ""
}

// location returns the place of a fault without what is inside of a field that the envelope does not
// have: the names there may be anything, openids too.
func location(path string) string {
	field := path
	if at := strings.IndexAny(path, ".["); at >= 0 {
		field = path[:at]
	}
	if _, known := envelopeFields[field]; known {
		return path
	}
	return field
}

// withoutValue removes the value with which a tasks.FieldError begins if the field has a fixed set
// of words.
func withoutValue(fault string) string {
	if quoted, err := strconv.QuotedPrefix(fault); err == nil {
		return "the value" + fault[len(quoted):]
	}
	return fault
}

// unsafeError is an error of Redis for a task without an id: repeating the request may enqueue the
// task twice.
type unsafeError struct {
	error
}

// Unwrap returns the error.
func (e unsafeError) Unwrap() error { return e.error }

// awayReplies begin the replies of a Redis that cannot be used now, or not as it is configured.
var awayReplies = [...]string{
	"LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY ",
	"NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients",
}

// redisAway reports whether an error means that Redis cannot be used now.
func redisAway(err error) bool {
	for _, away := range []error{
		context.DeadlineExceeded, context.Canceled, io.EOF, io.ErrUnexpectedEOF, net.ErrClosed,
		redis.ErrClosed, redis.ErrPoolTimeout, redis.ErrPoolExhausted,
	} {
		if errors.Is(err, away) {
			return true
		}
	}
	for _, prefix := range awayReplies {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	var network net.Error
	return errors.As(err, &network)
}

// writeProblem answers a request with a problem.
func writeProblem(ctx huma.Context, p *problem.Problem) {
	_, w := humago.Unwrap(ctx)
	p.Write(w)
}

// awayEvery is the time between two lines in the log about a Redis that does not answer.
const awayEvery = 10 * time.Second

// awayLog logs that Redis does not answer, now and then.
type awayLog struct {
	mu   sync.Mutex
	last time.Time // guarded by mu
}

func (l *awayLog) warn(log *slog.Logger, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.last) >= awayEvery {
		l.last = now
		log.Warn("requests are answered 503", slog.Any("err", err))
	}
}
