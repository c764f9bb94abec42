package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

const (
	maxContentChars   = 2500    // characters, msg_sec_check version 2
	maxContentBytesV1 = 500_000 // bytes, version 1
	maxImageBytes     = 1 << 20 // bytes
	imageFaultMark    = "sandbox:fault="
	labelNormal       = 100
	labelIllegal      = 20006
)

// textRequest is the body of msg_sec_check. Version 1 has only content.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_msgseccheck.html
type textRequest struct {
	anonymous
	Content string `json:"content"`
	Version number `json:"version"`
	Scene   number `json:"scene"`
	OpenID  string `json:"openid"`
}

func (q *textRequest) receiver() string    { return q.OpenID }
func (q *textRequest) faultSource() string { return q.OpenID }

func (q *textRequest) check(*checkEnv) *refusal {
	if q.Content == "" {
		return refuse(44004)
	}
	switch q.Version {
	case 0, 1:
		if len(q.Content) > maxContentBytesV1 {
			return refuse(45002)
		}
		return nil
	case 2:
	default:
		return refuse(40097)
	}
	switch {
	case q.Scene < 1 || q.Scene > 4:
		return refuse(40129)
	case !validOpenID(q.OpenID):
		return refuse(40003)
	case utf8.RuneCountInString(q.Content) > maxContentChars:
		return refuse(45002)
	}
	return nil
}

// refuseRisky returns 87014 for risky content from the checks of version 1, nil for other requests.
func refuseRisky(x *exchange) *refusal {
	switch q := x.req.(type) {
	case *imageRequest:
		if x.bodyRefusal == nil {
			return refuse(87014)
		}
	case *textRequest:
		if x.bodyRefusal == nil && q.Version < 2 {
			return refuse(87014)
		}
	}
	return nil
}

// verdict is the result of one strategy, or of the whole check.
type verdict struct {
	Suggest string `json:"suggest"`
	Label   int    `json:"label"`
}

type detail struct {
	Strategy string `json:"strategy"`
	ErrCode  int    `json:"errcode"`
	verdict
	Prob int `json:"prob"`
}

func answerTextCheck(s *Server, x *exchange) reply {
	if q, _ := x.req.(*textRequest); q.Version < 2 {
		return answerOK(s, x)
	}
	found := checkVerdict(x)
	return jsonReply(struct {
		plainAnswer
		Detail  []detail `json:"detail"`
		TraceID string   `json:"trace_id"`
		Result  verdict  `json:"result"`
	}{plainAnswer{ErrMsg: "ok"}, []detail{{Strategy: "content_model", verdict: found, Prob: 90}}, traceID(x), found})
}

// checkVerdict returns the verdict on what a call checks.
func checkVerdict(x *exchange) verdict {
	if x.fault.effect == effectRisky {
		return verdict{"risky", labelIllegal}
	}
	return verdict{"pass", labelNormal}
}

func traceID(x *exchange) string {
	return fmt.Sprintf("%08x-%016x", x.at.Unix(), madeup.Scramble(x.serial))
}

// mediaRequest is the body of media_check_async. Version 1 has neither scene nor openid.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/sec-center/sec-check/api_mediacheckasync.html
type mediaRequest struct {
	anonymous
	MediaURL  string `json:"media_url"`
	MediaType number `json:"media_type"` // 1 audio, 2 image
	Version   number `json:"version"`
	Scene     number `json:"scene"`
	OpenID    string `json:"openid"`
}

func (q *mediaRequest) receiver() string    { return q.OpenID }
func (q *mediaRequest) faultSource() string { return q.OpenID }

func (q *mediaRequest) check(*checkEnv) *refusal {
	switch {
	case !webAddress(q.MediaURL):
		return refuse(40066)
	case q.MediaType != 1 && q.MediaType != 2:
		return refuse(40004)
	case q.Version < 0 || q.Version > 2:
		return refuse(40097)
	case q.Version < 2:
		return nil
	case q.Scene < 1 || q.Scene > 4:
		return refuse(40129)
	case !validOpenID(q.OpenID):
		return refuse(40003)
	}
	return nil
}

// answerMediaCheck returns the trace_id of the push in which WeChat sends the verdict, see mediaChecked.
func answerMediaCheck(_ *Server, x *exchange) reply {
	return jsonReply(struct {
		plainAnswer
		TraceID string `json:"trace_id"`
	}{plainAnswer{ErrMsg: "ok"}, traceID(x)})
}

// imageRequest is the upload of img_sec_check.
type imageRequest struct {
	anonymous
	fileName string
	data     []byte
}

// faultSource returns the file's name, or the fault named after the mark in the image's bytes together with the image's size,
// so that two images count separately.
func (q *imageRequest) faultSource() string {
	if name, _, _ := splitFault(q.fileName); name != "" {
		return q.fileName
	}
	_, behind, marked := bytes.Cut(q.data, []byte(imageFaultMark))
	if !marked {
		return ""
	}
	name, _, _ := bytes.Cut(behind[:min(len(behind), 64)], []byte(";"))
	return fmt.Sprintf("%s-%d", name, len(q.data))
}

func (q *imageRequest) check(*checkEnv) *refusal {
	switch {
	case len(q.data) == 0, q.fileName == "": // WeChat treats a part without a file name as a form field
		return refuse(41005)
	case len(q.data) > maxImageBytes:
		return refuse(40006)
	case !oneOf(http.DetectContentType(q.data), "image/png", "image/jpeg", "image/gif"):
		return refuse(40137)
	}
	return nil
}

// decodeImage reads the multipart field media.
func decodeImage(r *http.Request, body []byte) (request, *refusal) {
	req := &imageRequest{}
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		return req, refuse(41005)
	}
	reader := multipart.NewReader(bytes.NewReader(body), parameters["boundary"])
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return req, nil
		}
		if err != nil {
			return req, refuse(47001)
		}
		if part.FormName() != "media" {
			continue
		}
		req.fileName = part.FileName()
		if req.data, err = io.ReadAll(part); err != nil {
			return req, refuse(47001)
		}
	}
}
