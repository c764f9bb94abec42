package console

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// maxStreams is how many pages are kept up to date at the same time.
	maxStreams = 512
	// heartbeatEvery is how often a stream in which nothing changes sends something, so that a
	// connection that is gone is noticed.
	heartbeatEvery = 15 * time.Second
)

// wantsEvents reports whether a page asks for its changes.
func wantsEvents(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept"), "text/event-stream")
}

// stream sends the part "live" of a page as server-sent events: at once, and again when it has
// changed. The events are live (the HTML), stale (it cannot be read now) and end (the session has
// ended, or the page is not there any more: it has to be loaded again). A stream also ends at a
// shutdown, and the browser connects again.
func (c *Console) stream(w http.ResponseWriter, r *request, p page) {
	select {
	case <-c.drained:
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	default:
	}
	select {
	case c.streams <- struct{}{}:
		defer func() { <-c.streams }()
	default:
		http.Error(w, "too many pages are open", http.StatusServiceUnavailable)
		return
	}
	out := &events{w: w, control: http.NewResponseController(w), sent: time.Now()}
	out.header()
	tick := time.NewTicker(sharing)
	defer tick.Stop()
	for {
		if done := c.sendLive(out, r, p); done || out.err != nil {
			return
		}
		select {
		case <-c.drained:
			return
		case <-r.Context().Done():
			out.send("end", nil) // the session has ended, or the reader has gone
			return
		case <-tick.C:
		}
	}
}

// sendLive sends what a page shows now, if it is something else than before. It returns true when
// there is nothing more to send.
func (c *Console) sendLive(out *events, r *request, p page) (done bool) {
	r.now = time.Now()
	data, err := p.load(r)
	var f *fault
	switch {
	case r.Context().Err() != nil:
		return false // as the caller finds
	case errors.As(err, &f):
		out.send("end", nil)
		return true
	case err != nil:
		c.logFailure(r, p, err)
		out.change("stale", nil)
		return false
	}
	var live bytes.Buffer
	if err := c.views.executeLive(&live, r, p.name, data); err != nil {
		c.Log.Error("a page could not be written", "page", p.name, "err", err)
		out.send("end", nil)
		return true
	}
	out.change("live", live.Bytes())
	return false
}

// events writes server-sent events.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	last    []byte    // what was sent last
	sent    time.Time // when something was sent last
	err     error     // of writing
}

func (e *events) header() {
	header := e.w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx would keep events back
	e.w.WriteHeader(http.StatusOK)
	e.write([]byte("retry: 3000\n\n"))
}

// countdowns matches the texts of times to come, which the script of the page counts down.
var countdowns = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(<time class="until"[^>]*>)[^<]*`) })

// change sends an event unless it is the same as the last one but for countdowns.
func (e *events) change(name string, data []byte) {
	whole := append([]byte(name+"\n"), countdowns().ReplaceAll(data, []byte("$1"))...)
	if e.last != nil && bytes.Equal(whole, e.last) {
		if time.Since(e.sent) >= heartbeatEvery {
			e.write([]byte(": nothing new\n\n"))
		}
		return
	}
	e.last = whole
	e.send(name, data)
}

func (e *events) send(name string, data []byte) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\n", name)
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		fmt.Fprintf(&b, "data: %s\n", bytes.TrimSuffix(line, []byte("\r")))
	}
	b.WriteByte('\n')
	e.write(b.Bytes())
}

func (e *events) write(p []byte) {
	if e.err != nil {
		return
	}
	if _, e.err = e.w.Write(p); e.err == nil {
		e.err = e.control.Flush()
	}
	e.sent = time.Now()
}
