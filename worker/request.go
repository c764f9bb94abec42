package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// maxMedia is the largest image that WeChat checks, in bytes (img_sec_check).
const maxMedia = 1 << 20

// guard returns a *dispatch.NotSentError for a task that must not be sent, whatever WeChat would answer.
func (d *deliverer) guard(ctx context.Context, j *job) error {
	allowed := j.app.OnlyOpenIDs
	if len(allowed) > 0 && j.receiver != "" && !slices.Contains(allowed, j.receiver) {
		return &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: "staging"}
	}
	if j.template == "" {
		return nil
	}
	if reason, held := d.dispatcher.TemplateHeld(ctx, j.App, j.template); held {
		return &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: templateHeld(reason)}
	}
	return nil
}

// templateHeld returns the reason of an outcome for a hold on a template: WeChat's is named once.
func templateHeld(reason string) string {
	if reason == dispatch.ReasonTemplateHeld {
		return reason
	}
	return dispatch.ReasonTemplateHeld + ": " + reason
}

// request prepares the content and the token of a call, so that only a connection is missing
// before the permit's instant.
func (d *deliverer) request(ctx context.Context, j *job) (wechat.Request, error) {
	if err := d.guard(ctx, j); err != nil {
		return wechat.Request{}, err
	}
	request, err := d.content(ctx, j)
	if err != nil {
		return wechat.Request{}, err
	}
	if err := d.dispatcher.FetchToken(ctx, &j.call); err != nil {
		return wechat.Request{}, err
	}
	return request, nil
}

// content returns the request: the body byte for byte as it was enqueued, or an image.
func (d *deliverer) content(ctx context.Context, j *job) (wechat.Request, error) {
	request := wechat.Request{Path: wechat.Endpoint(j.spec.Path), Body: j.Body}
	if !j.spec.Multipart {
		return request, nil
	}
	media, err := d.mediaOf(ctx, j)
	if err != nil {
		return wechat.Request{}, err
	}
	if len(media) > maxMedia {
		return wechat.Request{}, &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: "media: over 1 MB"}
	}
	request.Body, request.Media, request.MediaType = nil, media, tasks.ImageType(media)
	if request.MediaType == "" {
		return wechat.Request{}, &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: "media: not an image"}
	}
	return request, nil
}

// media returns the image of a check: from the payload, from Redis, or from a host that the
// configuration allows.
func (d *deliverer) mediaOf(ctx context.Context, j *job) ([]byte, error) {
	var body tasks.ImageCheckPayload
	if err := json.Unmarshal(j.Body, &body); err != nil {
		return nil, &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: "media: the body cannot be read"}
	}
	switch {
	case body.MediaBlob != "":
		media, err := d.ledger.Blob(ctx, j.App, j.ID)
		if errors.Is(err, ledger.ErrNotFound) {
			return nil, &dispatch.NotSentError{Outcome: tasks.OutcomeFailed, Reason: "media: gone from Redis"}
		}
		if err != nil {
			return nil, &dispatch.PrepareError{What: "media", Err: err}
		}
		if sum := sha256.Sum256(media); hex.EncodeToString(sum[:]) != body.MediaBlob {
			return nil, &dispatch.NotSentError{Outcome: tasks.OutcomeFailed, Reason: "media: the id was enqueued with another image before"}
		}
		return media, nil
	case body.MediaURL != "":
		j.lane.gate.DonePreparing(j.started)
		return d.media.fetch(ctx, body.MediaURL)
	default:
		return body.Media, nil
	}
}

// mediaFetcher fetches images from the hosts that the configuration allows.
type mediaFetcher struct {
	hosts  []string
	client *http.Client
}

// newMediaFetcher returns a mediaFetcher that follows no redirects, since they could lead to a
// host that is not allowed.
func newMediaFetcher(hosts []string, timeout time.Duration) *mediaFetcher {
	return &mediaFetcher{hosts, &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// fetch fetches an image of at most maxMedia+1 bytes.
func (f *mediaFetcher) fetch(ctx context.Context, raw string) ([]byte, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || !slices.Contains(f.hosts, u.Host) {
		return nil, &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: "media: the host is not in worker.media_hosts"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: "media: the URL is malformed"}
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, &dispatch.PrepareError{What: "media", Err: withoutURL(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, &dispatch.PrepareError{What: "media", Err: fmt.Errorf("status %d", resp.StatusCode)}
	case resp.StatusCode != http.StatusOK:
		return nil, &dispatch.NotSentError{Outcome: tasks.OutcomeRejected, Reason: fmt.Sprintf("media: status %d", resp.StatusCode)}
	}
	media, err := io.ReadAll(io.LimitReader(resp.Body, maxMedia+1))
	if err != nil {
		return nil, &dispatch.PrepareError{What: "media", Err: withoutURL(err)}
	}
	return media, nil
}

// withoutURL removes the URL, which may contain a signature, from an error of net/http.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
