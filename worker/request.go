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

	"github.com/wxcourier/wxcourier/internal/ledger"
	"github.com/wxcourier/wxcourier/tasks"
	"github.com/wxcourier/wxcourier/wechat"
)

// maxMedia is the largest image that WeChat checks, in bytes (img_sec_check).
const maxMedia = 1 << 20

// guard returns a *guardError for a task that must not be sent, whatever WeChat would answer.
func (r *Replica) guard(ctx context.Context, j *job) error {
	allowed := r.apps[j.App].OnlyOpenIDs
	if len(allowed) > 0 && j.receiver != "" && !slices.Contains(allowed, j.receiver) {
		return &guardError{outcome: tasks.OutcomeRejected, reason: "staging"}
	}
	if j.template == "" {
		return nil
	}
	if reason, held := r.templates.Held(ctx, j.App, j.template); held {
		return &guardError{outcome: tasks.OutcomeRejected, reason: "template_held: " + reason}
	}
	return nil
}

// request prepares the content and the token of a call, so that only a connection is missing
// before the permit's instant.
func (r *Replica) request(ctx context.Context, j *job) (wechat.Request, error) {
	if err := r.guard(ctx, j); err != nil {
		return wechat.Request{}, err
	}
	request, err := r.content(ctx, j)
	if err != nil {
		return wechat.Request{}, err
	}
	if err := r.wechat.FetchToken(ctx, j.App); err != nil {
		r.metrics.countNoToken(j.App, j.spec.Path)
		return wechat.Request{}, err
	}
	return request, nil
}

// content returns the request: the body byte for byte as it was enqueued, or an image.
func (r *Replica) content(ctx context.Context, j *job) (wechat.Request, error) {
	request := wechat.Request{Path: wechat.Endpoint(j.spec.Path), Body: j.Body}
	if !j.spec.Multipart {
		return request, nil
	}
	media, err := r.media(ctx, j)
	if err != nil {
		return wechat.Request{}, err
	}
	if len(media) > maxMedia {
		return wechat.Request{}, &guardError{outcome: tasks.OutcomeRejected, reason: "media: over 1 MB"}
	}
	request.Body, request.Media, request.MediaType = nil, media, tasks.ImageType(media)
	if request.MediaType == "" {
		return wechat.Request{}, &guardError{outcome: tasks.OutcomeRejected, reason: "media: not an image"}
	}
	return request, nil
}

// media returns the image of a check: from the payload, from Redis, or from a host that the
// configuration allows.
func (r *Replica) media(ctx context.Context, j *job) ([]byte, error) {
	var body tasks.ImageCheckPayload
	if err := json.Unmarshal(j.Body, &body); err != nil {
		return nil, &guardError{outcome: tasks.OutcomeRejected, reason: "media: the body cannot be read"}
	}
	switch {
	case body.MediaBlob != "":
		media, err := r.ledger.Blob(ctx, j.App, j.ID)
		if errors.Is(err, ledger.ErrNotFound) {
			return nil, &guardError{outcome: tasks.OutcomeFailed, reason: "media: gone from Redis"}
		}
		if err != nil {
			return nil, &mediaError{err: err}
		}
		if sum := sha256.Sum256(media); hex.EncodeToString(sum[:]) != body.MediaBlob {
			return nil, &guardError{outcome: tasks.OutcomeFailed, reason: "media: the id was enqueued with another image before"}
		}
		return media, nil
	case body.MediaURL != "":
		r.servers.donePreparing(j)
		return r.fetchMedia(ctx, body.MediaURL)
	default:
		return body.Media, nil
	}
}

// mediaError means that an image could not be read this time. No request was written.
type mediaError struct{ err error }

func (e *mediaError) Error() string { return fmt.Sprintf("media: %v", e.err) }
func (e *mediaError) Unwrap() error { return e.err }

// newMediaClient returns the HTTP client that fetches images. It follows no redirects, since
// they could lead to a host that is not allowed.
func newMediaClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetchMedia fetches an image of at most maxMedia+1 bytes.
func (r *Replica) fetchMedia(ctx context.Context, raw string) ([]byte, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || !slices.Contains(r.cfg.MediaHosts, u.Host) {
		return nil, &guardError{outcome: tasks.OutcomeRejected, reason: "media: the host is not in worker.media_hosts"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, &guardError{outcome: tasks.OutcomeRejected, reason: "media: the URL is malformed"}
	}
	resp, err := r.mediaClient.Do(req)
	if err != nil {
		return nil, &mediaError{err: withoutURL(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests:
		return nil, &mediaError{err: fmt.Errorf("status %d", resp.StatusCode)}
	case resp.StatusCode != http.StatusOK:
		return nil, &guardError{outcome: tasks.OutcomeRejected, reason: fmt.Sprintf("media: status %d", resp.StatusCode)}
	}
	media, err := io.ReadAll(io.LimitReader(resp.Body, maxMedia+1))
	if err != nil {
		return nil, &mediaError{err: withoutURL(err)}
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
