package monitor

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/wxcourier/wxcourier/internal/apikey"
	"github.com/wxcourier/wxcourier/internal/audit"
)

// maxRemembered is how much of an answer to a change is read for its count.
const maxRemembered = 4 << 20

// serveAPI passes a request on to asynqmon's API, and records a change.
func (m *Monitor) serveAPI(w http.ResponseWriter, r *http.Request, u *ui, changes bool) {
	w.Header().Set("Cache-Control", "no-store")
	w, done := m.compressed(w, r)
	defer done()
	switch {
	case changes:
		answer := &remembered{ResponseWriter: w, code: http.StatusOK}
		u.handler.ServeHTTP(answer, r)
		if answer.code < http.StatusMultipleChoices {
			m.record(r, answer.text.Bytes())
		}
	case r.URL.Path == apiPath+"redis_info":
		answer := &remembered{ResponseWriter: w, code: http.StatusOK, held: true}
		u.handler.ServeHTTP(answer, r)
		answer.release(withoutInfo)
	default:
		w.Header().Set("Content-Type", "application/json") // asynqmon sets none on some; its errors replace it
		u.handler.ServeHTTP(w, r)
	}
}

// withoutInfo is the answer for a Redis that does not allow INFO, as some hosted ones.
func withoutInfo() any {
	return map[string]any{
		"address": "", "info": map[string]string{}, "cluster": false, "raw_cluster_nodes": "", "queue_locations": nil,
		"raw_info": "# This Redis does not answer INFO: it is down, or its provider forbids the command.\n" +
			"# wxcourier itself does not need it; `wxcourier check` says whether Redis works.",
	}
}

// remembered is a http.ResponseWriter that keeps what was answered.
type remembered struct {
	http.ResponseWriter
	code int
	text bytes.Buffer
	held bool // the answer is not sent before release
}

// WriteHeader implements http.ResponseWriter.
func (a *remembered) WriteHeader(code int) {
	a.code = code
	if !a.held {
		a.ResponseWriter.WriteHeader(code)
	}
}

// Write implements http.ResponseWriter.
func (a *remembered) Write(p []byte) (int, error) {
	if a.held || a.text.Len()+len(p) <= maxRemembered {
		a.text.Write(p)
	}
	if a.held {
		return len(p), nil
	}
	return a.ResponseWriter.Write(p)
}

// release sends the answer, or another one in place of an error.
func (a *remembered) release(instead func() any) {
	a.Header().Set("Content-Type", "application/json")
	if a.code >= http.StatusInternalServerError {
		_ = json.NewEncoder(a.ResponseWriter).Encode(instead()) // the client may have gone
		return
	}
	a.ResponseWriter.WriteHeader(a.code)
	_, _ = a.ResponseWriter.Write(a.text.Bytes())
}

// record records a change: its path, which names the queue, the task and what was done, and how many
// tasks that concerned.
func (m *Monitor) record(r *http.Request, answer []byte) {
	entry := entryOf(r)
	entry.Count = count(answer)
	if entry.Count == 0 && strings.HasPrefix(entry.Target, entry.App+":") && strings.Contains(r.URL.Path, "_tasks/") {
		entry.Count = 1
	}
	audit.Record(r.Context(), m.deps.Redis, m.deps.Log, entry)
}

// entryOf returns the record of a change from its path:
//
//	POST   /queues/<queue>:pause
//	DELETE /queues/<queue>/pending_tasks/<task id>
//	POST   /queues/<queue>/retry_tasks:run_all
func entryOf(r *http.Request) audit.Entry {
	e := audit.Entry{By: "key:" + apikey.FromContext(r.Context()).ID, Via: audit.Console, Action: audit.Monitor}
	parts := strings.Split(strings.TrimPrefix(r.URL.Path, apiPath), "/")
	if len(parts) < 2 || parts[0] != "queues" {
		e.Target, e.Note = strings.Join(parts, "/"), strings.ToLower(r.Method)
		return e
	}
	last, verb := parts[len(parts)-1], strings.ToLower(r.Method)
	if i := strings.LastIndexByte(last, ':'); i >= 0 && r.Method == http.MethodPost || r.Method == http.MethodDelete && strings.HasSuffix(last, ":delete_all") {
		last, verb = last[:i], last[i+1:]
	}
	parts[len(parts)-1] = last
	e.Target, e.Note = parts[1], verb
	if len(parts) > 2 { // "delete_all pending_tasks", "archive pending_tasks"
		e.Note += " " + strings.TrimSuffix(parts[2], "_tasks")
	}
	if len(parts) > 3 {
		e.Target = parts[3]
	}
	e.App, _, _ = strings.Cut(e.Target, ":")
	return e
}

// count returns how many tasks a change concerned, from asynqmon's answer: {"deleted":3} or
// {"deleted_ids":[…],"failed_ids":[…]}; none for an answer without a body, as for one task.
func count(answer []byte) int64 {
	var fields map[string]json.RawMessage
	if json.Unmarshal(answer, &fields) != nil {
		return 0
	}
	var total int64
	for name, value := range fields {
		var ids []json.RawMessage
		var n int64
		switch {
		case name == "failed_ids" || name == "error_ids":
		case json.Unmarshal(value, &ids) == nil:
			total += int64(len(ids))
		case json.Unmarshal(value, &n) == nil:
			total += n
		}
	}
	return total
}

// compressed returns a writer that compresses an answer for a client that takes it. done must be
// called when the answer is complete.
func (m *Monitor) compressed(w http.ResponseWriter, r *http.Request) (packed http.ResponseWriter, done func()) {
	w.Header().Add("Vary", "Accept-Encoding")
	if !acceptsGzip(r) || r.Method == http.MethodHead {
		return w, func() {}
	}
	c := &compressor{ResponseWriter: w, monitor: m}
	return c, c.close
}

// compressor compresses an answer. One without a body stays without.
type compressor struct {
	http.ResponseWriter
	monitor *Monitor
	writer  *gzip.Writer // from the first byte on
	code    int
}

// WriteHeader implements http.ResponseWriter. It waits for the body, which may not come.
func (c *compressor) WriteHeader(code int) {
	if c.code == 0 {
		c.code = code
	}
}

// Write implements http.ResponseWriter.
func (c *compressor) Write(p []byte) (int, error) {
	if c.writer == nil {
		c.Header().Set("Content-Encoding", "gzip")
		c.Header().Del("Content-Length")
		c.sendHeader()
		c.writer, _ = c.monitor.gzip.Get().(*gzip.Writer)
		c.writer.Reset(c.ResponseWriter)
	}
	return c.writer.Write(p)
}

func (c *compressor) sendHeader() {
	if c.code != 0 {
		c.ResponseWriter.WriteHeader(c.code)
	}
}

// close completes the answer.
func (c *compressor) close() {
	if c.writer == nil {
		c.sendHeader()
		return
	}
	_ = c.writer.Close() // the client may have gone
	c.monitor.gzip.Put(c.writer)
}
