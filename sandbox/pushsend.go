package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/pushwire"
)

// maxReply bounds the part of the answer to a push that is read.
const maxReply = 64 << 10

// sendNow sends a planned push before it returns. Further attempts follow in the background.
func (p *pusher) sendNow(q *queuedPush) {
	p.mu.Lock()
	ctx, closed := p.ctx, p.closed
	if !closed {
		p.running.Add(1)
	}
	p.mu.Unlock()
	if closed {
		p.enqueue(q) // ends it
		return
	}
	defer p.running.Done()
	p.send(ctx, q)
}

// send makes one attempt, and then ends the push or lets it wait for the next.
func (p *pusher) send(ctx context.Context, q *queuedPush) {
	p.mu.Lock()
	target, ok := p.targets[q.record.App]
	p.mu.Unlock()
	started := time.Now()
	q.record.Attempts++
	q.record.Answer, q.record.Error = 0, "the app has no callback"
	taken := false
	if ok {
		taken = p.attempt(ctx, target, q)
	}
	q.record.Took = time.Since(started)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case taken:
		q.record.Status = PushTaken
	case q.record.Attempts >= p.opts.Attempts || !ok:
		q.record.Status = PushFailed
	default:
		p.update(q)
		q.due = started.Add(p.opts.Interval)
		p.insert(q)
		return
	}
	p.finish(q)
}

// attempt makes one request. It reports whether it was answered as WeChat expects.
func (p *pusher) attempt(ctx context.Context, target pushwire.Target, q *queuedPush) bool {
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	if q.xmlOnly {
		target.JSON = false
	}
	wire := pushwire.Push{Envelope: q.envelope, OpenID: q.record.OpenID, Body: q.body, At: p.clock(), Forged: q.forged}
	wire.Nonce = newNonce()
	copy(wire.Random[:], strconv.FormatUint(1e15+rand.Uint64()%9e15, 10)) //nolint:gosec // nothing secret: it is part of what is encrypted
	r, err := target.Request(ctx, wire)
	if err != nil {
		q.record.Error = "the request cannot be made"
		return false
	}
	answer, err := p.client.Do(r)
	if err != nil {
		q.record.Error = "no answer"
		if errors.Is(err, context.DeadlineExceeded) {
			q.record.Error = "no answer in time"
		}
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	q.record.Answer, q.record.Error = answer.StatusCode, ""
	reply, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	switch {
	case err != nil:
		q.record.Error = "the answer was cut"
	case answer.StatusCode != http.StatusOK:
		q.record.Error = "an answer with another status than 200"
	case !goodReply(reply):
		q.record.Error = `an answer that is neither empty nor "success" nor a reply`
	}
	return q.record.Error == ""
}

// newNonce returns a random number of at most ten digits.
func newNonce() string { return strconv.FormatUint(rand.Uint64()%1e10, 10) } //nolint:gosec // not a secret

// verify checks an app's URL as WeChat does.
func (p *pusher) verify(ctx context.Context, app string) error {
	p.mu.Lock()
	target, ok := p.targets[app]
	p.mu.Unlock()
	if !ok {
		return fmt.Errorf("sandbox: the app %q has no callback", app)
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.Timeout)
	defer cancel()
	echo := newNonce()
	r, err := target.Verification(ctx, p.clock(), newNonce(), echo)
	if err != nil {
		return err
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return errors.New("sandbox: the URL of the callback did not answer") // err has the signature
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxReply))
	if err != nil || answer.StatusCode != http.StatusOK || string(body) != echo {
		return fmt.Errorf("sandbox: the URL of the callback answered %d, and not the echostr alone", answer.StatusCode)
	}
	return nil
}

// goodReply reports whether an answer is empty, "success" or a reply in XML or JSON.
func goodReply(answer []byte) bool {
	answer = bytes.TrimSpace(answer)
	return len(answer) == 0 || string(answer) == "success" || answer[0] == '<' || answer[0] == '{'
}
