package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// The pauses before a batch is sent again, 1 s and 3.5 s in all. A collector may ask for a longer one
// by Retry-After. The timeout of the batch ends them.
var retryPauses = [...]time.Duration{
	time.Second,
	2500 * time.Millisecond,
}

// logInterval is the shortest time between two log lines about failures.
const logInterval = time.Minute

// exporter sends batches of spans by OTLP over HTTP, in protobuf. The batch processor of the SDK
// calls it from one goroutine.
type exporter struct {
	cfg     config
	client  *http.Client
	log     *slog.Logger
	ctx     context.Context //nolint:containedctx // ends with cancel, and with it what is under way
	cancel  context.CancelFunc
	closing chan struct{} // closed by Traces.Close: nothing is sent again
	drained chan struct{} // closed by Shutdown: there are no more spans
	once    sync.Once     // of drained

	// Used by ExportSpans only.
	loggedAt time.Time
	lost     int // spans since then
}

func newExporter(cfg config, log *slog.Logger) *exporter {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: cfg.tls, TLSHandshakeTimeout: cfg.timeout,
		MaxIdleConns: 1, IdleConnTimeout: 90 * time.Second, ForceAttemptHTTP2: true,
	}
	e := &exporter{cfg: cfg, log: log, closing: make(chan struct{}), drained: make(chan struct{}), client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // the headers may be secrets
	}}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// ExportSpans sends a batch. It logs failures itself, once a minute, since OpenTelemetry's handler
// of errors writes to standard error; the error is always nil.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithTimeout(ctx, e.cfg.timeout)
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)() //nolint:contextcheck // the batch ends with either context
	err := e.send(ctx, spans)
	if err == nil {
		return nil
	}
	e.lost += len(spans)
	if now := time.Now(); now.Sub(e.loggedAt) >= logInterval {
		e.log.Warn("traces: spans were lost, since the collector did not take them", slog.Int("spans", e.lost), slog.Any("err", err))
		e.loggedAt, e.lost = now, 0
	}
	return nil
}

// Shutdown is called after the last batch.
func (e *exporter) Shutdown(context.Context) error {
	e.once.Do(func() {
		e.client.CloseIdleConnections()
		close(e.drained)
	})
	return nil
}

// send posts a batch, and again where the collector may take it later.
func (e *exporter) send(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	body, err := encode(spans)
	if err != nil {
		return err
	}
	if e.cfg.gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // to memory
		_ = w.Close()
		body = packed.Bytes()
	}
	for _, pause := range retryPauses {
		after, err := e.post(ctx, body)
		if err == nil || after < 0 {
			return err
		}
		select {
		case <-time.After(max(pause, after)):
		case <-e.closing:
			return err
		case <-ctx.Done():
			return err
		}
	}
	_, err = e.post(ctx, body)
	return err
}

// post sends a body once. retryAfter is the pause that the collector asks for, and negative where it
// will never take the body.
func (e *exporter) post(ctx context.Context, body []byte) (retryAfter time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.cfg.url.String(), bytes.NewReader(body))
	if err != nil {
		return -1, withoutURL(err)
	}
	req.Header = e.cfg.header.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", "wxcourier")
	if e.cfg.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return 0, withoutURL(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // to use the connection again
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
		return time.Duration(max(seconds, 0)) * time.Second, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	return -1, fmt.Errorf("HTTP status %d", resp.StatusCode)
}

// withoutURL removes the URL, which may contain a password, from an error of net/http.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
