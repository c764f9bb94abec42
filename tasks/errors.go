package tasks

import (
	"errors"
	"strings"
)

// ErrIDInUse says that the id of a task belongs to a task of another type, which waits or
// whose result is kept: nothing was enqueued. The error that wraps it names that type. An
// id is unique within its app, not within its type.
var ErrIDInUse = errors.New("tasks: the id belongs to a task of another type")

// A FieldError is one fault of one task.
type FieldError struct {
	// Path is where the fault is, as a JSON path from the envelope's root:
	// "batch", "body.data.thing1.value", "body.news.articles[0].url". It is empty
	// for a fault of the text as a whole (not JSON, too long).
	Path string
	// Problem names the fault, the limit and the fix. It never holds the value
	// itself, since values are openids and messages to people; only a word of a
	// closed vocabulary (msgtype, env_version …) is quoted, cut to 32 characters.
	Problem string
}

// String is "path: problem", or the problem alone where there is no path.
func (f FieldError) String() string {
	if f.Path == "" {
		return f.Problem
	}
	return f.Path + ": " + f.Problem
}

// A ValidationError lists all faults of one task at once. [ParseEnvelope],
// [Envelope.Prepare], [DecodePayload] and the constructors return it as
// *ValidationError; there is always at least one field.
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

// validationError is the error of these faults: nil for none.
func validationError(faults []FieldError) error {
	if len(faults) == 0 {
		return nil
	}
	return &ValidationError{Fields: faults}
}
