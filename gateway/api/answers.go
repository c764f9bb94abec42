package api

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	"github.com/wxcourier/wxcourier/internal/ingest"
	"github.com/wxcourier/wxcourier/internal/problem"
	"github.com/wxcourier/wxcourier/internal/strictjson"
	"github.com/wxcourier/wxcourier/tasks"
)

// maxAnswers is the compressed size of answers, some million lines, from which on the answer of a
// batch has only the lines at fault; from twice that size on it has the summary only.
const maxAnswers = 32 << 20

// answers keeps the answers to the lines of a batch until its body is read: a client that reads
// only after it has sent everything would block both sides otherwise. They are compressed, to
// about a tenth.
type answers struct {
	faultsOnly bool
	summary    batchSummary

	kept  chunks
	lines *flate.Writer // to kept
	line  []byte        // the buffer of one line
}

// batchLine is the line of a task that was enqueued.
type batchLine struct {
	Line   int `json:"line" doc:"The number of the line, counted from 1."`
	Status int `json:"status" doc:"202, or 200 if the id was known."`
	tasks.Receipt
}

// batchFault is the line of a task that was not enqueued.
type batchFault struct {
	Line   int             `json:"line" doc:"The number of the line, counted from 1."`
	Status int             `json:"status" doc:"As POST /v1/tasks answers this task; with 503 repeat the line."`
	App    string          `json:"app,omitempty"`
	ID     string          `json:"id,omitempty"`
	Detail string          `json:"detail"`
	Errors []problem.Fault `json:"errors,omitempty"`
}

// batchSummary is the last line, as its field summary.
type batchSummary struct {
	Lines       int    `json:"lines" doc:"Lines that are not blank."`
	Enqueued    int    `json:"enqueued" doc:"Enqueued by this request."`
	Already     int    `json:"already" doc:"Whose id was known."`
	Differs     int    `json:"differs" doc:"Of already: with another body, which is not sent."`
	Faults      int    `json:"faults" doc:"Refused; repeating them has the same result."`
	NotEnqueued int    `json:"not_enqueued" doc:"Without an answer of Redis; repeat them."`
	Omitted     int    `json:"omitted,omitempty" doc:"Lines that this answer leaves out since it would be too large."`
	Error       string `json:"error,omitempty" doc:"Why not all lines were enqueued, or read; repeat the batch."`
}

// batchEnd is the last line.
type batchEnd struct {
	Summary batchSummary `json:"summary"`
}

func newAnswers(faultsOnly bool) *answers {
	a := &answers{faultsOnly: faultsOnly}
	a.lines, _ = flate.NewWriter(&a.kept, flate.BestSpeed) // the level is valid
	return a
}

// add adds the answers of some lines.
func (a *answers) add(all []ingest.Answer) {
	for _, one := range all {
		fault := a.count(one)
		size := a.kept.size
		switch {
		case !fault && a.faultsOnly:
		case size >= 2*maxAnswers, size >= maxAnswers && !fault:
			a.summary.Omitted++
		default:
			a.line = append(appendAnswer(a.line[:0], one), '\n')
			_, _ = a.lines.Write(a.line) // chunks returns no error
		}
	}
}

// count counts an answer, and reports whether it is to be seen as a fault.
func (a *answers) count(one ingest.Answer) (fault bool) {
	s := &a.summary
	s.Lines++
	switch {
	case one.Err != nil && lineProblem(one.Err).Status == http.StatusServiceUnavailable:
		s.NotEnqueued++
	case one.Err != nil:
		s.Faults++
	case !one.Receipt.Already:
		s.Enqueued++
		return false
	default:
		s.Already++
		if !one.Receipt.Differs {
			return false
		}
		s.Differs++
	}
	return true
}

// appendAnswer appends the JSON of an answer.
func appendAnswer(dst []byte, one ingest.Answer) []byte {
	if one.Err != nil {
		p := lineProblem(one.Err)
		text, _ := json.Marshal(batchFault{one.Line, p.Status, one.App, one.ID, p.Detail, p.Errors}) // has no values that fail
		return append(dst, text...)
	}
	r, status := one.Receipt, http.StatusAccepted
	if r.Already {
		status = http.StatusOK
	}
	dst = strconv.AppendInt(append(dst, `{"line":`...), int64(one.Line), 10)
	dst = strconv.AppendInt(append(dst, `,"status":`...), int64(status), 10)
	dst = strictjson.AppendQuote(append(dst, `,"app":`...), r.App)
	dst = strictjson.AppendQuote(append(dst, `,"id":`...), r.ID)
	dst = strictjson.AppendQuote(append(dst, `,"queue":`...), r.Queue)
	for _, flag := range [...]struct {
		set  bool
		json string
	}{{r.Already, `,"already":true`}, {r.Done, `,"done":true`}, {r.Differs, `,"differs":true`}} {
		if flag.set {
			dst = append(dst, flag.json...)
		}
	}
	if r.Warning != "" {
		dst = strictjson.AppendQuote(append(dst, `,"warning":`...), r.Warning)
	}
	return append(dst, '}')
}

// writeTo writes all lines and the summary. The client may have gone.
func (a *answers) writeTo(w io.Writer) {
	_ = a.lines.Close() // chunks returns no error
	if _, err := io.Copy(w, flate.NewReader(a.kept.reader())); err != nil {
		return
	}
	end, _ := json.Marshal(batchEnd{a.summary}) // has no values that fail
	_, _ = w.Write(append(end, '\n'))
}

// chunkSize is the size of a chunk in bytes.
const chunkSize = 64 << 10

// chunks is a growing sequence of bytes that is never copied.
type chunks struct {
	all  [][]byte
	size int
}

// Write implements io.Writer.
func (c *chunks) Write(p []byte) (int, error) {
	c.size += len(p)
	for rest := p; len(rest) > 0; {
		last := len(c.all) - 1
		if last < 0 || len(c.all[last]) == chunkSize {
			c.all = append(c.all, make([]byte, 0, chunkSize))
			continue
		}
		n := min(chunkSize-len(c.all[last]), len(rest))
		c.all[last] = append(c.all[last], rest[:n]...)
		rest = rest[n:]
	}
	return len(p), nil
}

func (c *chunks) reader() io.Reader {
	readers := make([]io.Reader, len(c.all))
	for i, chunk := range c.all {
		readers[i] = bytes.NewReader(chunk)
	}
	return io.MultiReader(readers...)
}
