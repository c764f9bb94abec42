package tasks

import (
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrIDInUse means that a task of another type has the id, and waits or has a result that
// is kept. Nothing was enqueued. The error that wraps it names that type. An id is unique
// within its app, not within its type.
var ErrIDInUse = errors.New("tasks: the id belongs to a task of another type")

// ErrNotFound means that no task has this id, or that its result is no longer kept.
var ErrNotFound = errors.New("no such task")

// ErrRedisFull says that Redis has reached its memory limit and takes no more tasks,
// until some are delivered and their results expire, or the limit is raised. Repeating the
// call is safe, also for a task that was partly enqueued.
var ErrRedisFull = errors.New("Redis is out of memory (its maxmemory): let tasks be delivered, or raise maxmemory, then repeat") //nolint:staticcheck // the name of the program begins it

// enqueueError adds the task's id to an error, and ErrRedisFull where it applies.
func enqueueError(id string, err error) error {
	if redis.HasErrorPrefix(err, "OOM ") {
		err = fmt.Errorf("%w: %w", ErrRedisFull, err)
	}
	return fmt.Errorf("enqueue %s: %w", id, err)
}

// A FieldError is one fault of one task.
type FieldError struct {
	// Path is the JSON path of the fault from the envelope's root: "batch",
	// "body.data.thing1.value", "body.news.articles[0].url". It is empty for a fault of
	// the whole text (not JSON, too long).
	Path string
	// Problem names the fault, the limit and the fix. It never contains the value,
	// since values are openids and messages to people; only the value of a member with a
	// fixed set of words (msgtype, env_version …) is quoted, truncated to 32 characters.
	Problem string
}

// String returns "path: problem", or only the problem if there is no path.
func (f FieldError) String() string {
	if f.Path == "" {
		return f.Problem
	}
	return f.Path + ": " + f.Problem
}

// A ValidationError lists all faults of one task. [ParseEnvelope], [Envelope.Prepare],
// [DecodePayload] and the constructors return it as *ValidationError. It has at least one
// field.
type ValidationError struct {
	Fields []FieldError
}

// Error joins the faults with "; ".
func (e *ValidationError) Error() string {
	var b strings.Builder
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// validationError returns the error of the faults, or nil if there are none.
func validationError(faults []FieldError) error {
	if len(faults) == 0 {
		return nil
	}
	return &ValidationError{Fields: faults}
}
