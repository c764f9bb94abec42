package wechat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/wxcourier/wxcourier/internal/printable"
)

// Answer is WeChat's answer to a request that it accepted. The endpoint determines which
// fields are set.
type Answer struct {
	Endpoint Endpoint
	MsgID    string // of a message, as a string because it exceeds 2^53; "" if WeChat returned none
	OpenLink string // generatescheme, generatenfcscheme: weixin://dl/business/?t=…
	URLLink  string // generate_urllink: https://wxaurl.cn/…
	Link     string // genwxashortlink: #小程序://…
	Suggest  string // of a check: "pass", "review" or "risky"
	Label    string // of a check: "100" (nothing found), "20001" …
	TraceID  string // of a check
	Msg      string // errmsg, without its rid; "ok" as a rule
	RID      string // WeChat's request id, "" when there was none

	Image     []byte // of a code
	ImageType string // "image/jpeg", "image/png" …
}

// number is an integer that WeChat writes as a number on most pages and as a string
// on some.
type number struct {
	value   int64
	present bool
}

// UnmarshalJSON accepts 40001, "40001", "" and null.
func (n *number) UnmarshalJSON(raw []byte) error {
	s := unquote(raw)
	if s == "" && (raw[0] == '"' || raw[0] == 'n') {
		return nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("%d bytes that are not an integer", len(raw))
	}
	n.value, n.present = v, true
	return nil
}

// text is a value that WeChat writes as a string or as a number; a number keeps its digits.
// A value of any other type counts as absent.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	*t = text(unquote(raw))
	return nil
}

// id returns the text, or "" for 0, which WeChat sends when there is no id.
func (t text) id() string {
	if t == "0" {
		return ""
	}
	return string(t)
}

// unquote returns the text of a JSON string, the digits of a number, "" for anything else.
func unquote(raw []byte) string {
	switch c := raw[0]; {
	case c == '"':
		if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
			return strings.TrimSpace(string(plain))
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return strings.TrimSpace(s)
	case c == '-' || c >= '0' && c <= '9':
		return string(raw)
	}
	return ""
}

// status holds the fields that every JSON answer shares. An absent errcode is not an error:
// whether the answer is a success then depends on its other fields, see Answer.missing.
type status struct {
	ErrCode number `json:"errcode"`
	ErrMsg  text   `json:"errmsg"`
}

type answerJSON struct {
	status
	MsgID    text        `json:"msgid"`
	OpenLink text        `json:"openlink"`
	URLLink  text        `json:"url_link"`
	Link     text        `json:"link"`
	TraceID  text        `json:"trace_id"`
	Result   checkResult `json:"result"`
}

// checkResult is the verdict of msg_sec_check. A result that is not an object counts as
// absent.
type checkResult struct {
	Suggest text
	Label   text
}

func (c *checkResult) UnmarshalJSON(raw []byte) error {
	var plain struct {
		Suggest text `json:"suggest"`
		Label   text `json:"label"`
	}
	if raw[0] == '{' {
		if err := json.Unmarshal(raw, &plain); err != nil {
			return err
		}
	}
	*c = checkResult(plain)
	return nil
}

// decodeAnswer decodes the reply to a business request. Its error is an *APIError or an
// *AnswerError.
func decodeAnswer(rep reply, sensitive sensitiveValues) (Answer, error) {
	if imageType := imageType(rep); imageType != "" {
		if !givesImage(rep.endpoint) {
			return Answer{}, rep.answerError("an image where JSON was expected")
		}
		return Answer{Endpoint: rep.endpoint, Image: rep.body, ImageType: imageType}, nil
	}
	var v answerJSON
	if err := rep.decode(&v, &v.status, sensitive); err != nil {
		return Answer{}, err
	}
	msg, rid := sensitive.message(string(v.ErrMsg))
	a := Answer{
		Endpoint: rep.endpoint,
		MsgID:    v.MsgID.id(),
		OpenLink: string(v.OpenLink),
		URLLink:  string(v.URLLink),
		Link:     string(v.Link),
		Suggest:  string(v.Result.Suggest),
		Label:    string(v.Result.Label),
		TraceID:  string(v.TraceID),
		Msg:      msg,
		RID:      rid,
	}
	explicitOK := v.ErrCode.present || msg == "ok"
	if explicitOK && a.Suggest == "" && errcodeIsVerdict(rep.endpoint, sensitive.body) {
		a.Suggest = "pass"
	}
	if missing := a.missing(explicitOK); missing != "" {
		return Answer{}, rep.answerError(missing)
	}
	return a, nil
}

// decode unmarshals a JSON answer into v, whose status is st. It returns an *AnswerError for
// an invalid answer and an *APIError for an errcode other than 0.
func (r reply) decode(v any, st *status, sensitive sensitiveValues) error {
	body := bytes.TrimSpace(bytes.TrimPrefix(r.body, []byte("\xef\xbb\xbf")))
	switch {
	case r.status != 200:
		return r.answerError("not an answer from WeChat")
	case len(body) == 0:
		return r.answerError("the answer is empty")
	case body[0] == '<':
		return r.answerError("HTML or XML where JSON was expected")
	case body[0] != '{':
		return r.answerError("neither JSON nor an image")
	}
	if err := json.Unmarshal(body, v); err != nil {
		if !json.Valid(body) {
			return r.answerError("the JSON is truncated or malformed")
		}
		return r.answerError("the JSON has a value of the wrong type")
	}
	if code := st.ErrCode.value; code != 0 {
		msg, rid := sensitive.message(string(st.ErrMsg))
		return &APIError{Endpoint: r.endpoint, Code: int(code), Msg: msg, RID: rid}
	}
	return nil
}

func (r reply) answerError(reason string) error {
	return &AnswerError{Endpoint: r.endpoint, Status: r.status, Reason: reason}
}

// imageType returns the media type of the reply's image, "" if the reply is not an image.
// The first bytes decide, because Content-Type is unreliable: image/jpeg has been seen on
// errors in JSON, and no type at all on images. For an image format not in imageMagics the
// Content-Type counts.
func imageType(r reply) string {
	if r.status != 200 || len(r.body) == 0 {
		return ""
	}
	for _, magic := range imageMagics {
		if bytes.HasPrefix(r.body, []byte(magic.prefix)) {
			return magic.imageType
		}
	}
	mediaType, _, _ := strings.Cut(strings.ToLower(r.contentType), ";")
	mediaType = strings.TrimSpace(mediaType)
	first := bytes.TrimLeft(r.body, " \t\r\n\ufeff")
	if strings.HasPrefix(mediaType, "image/") && len(first) > 0 && first[0] != '{' && first[0] != '<' {
		return mediaType
	}
	return ""
}

var imageMagics = []struct{ prefix, imageType string }{
	{"\xff\xd8\xff", "image/jpeg"},
	{"\x89PNG\r\n\x1a\n", "image/png"},
	{"GIF8", "image/gif"},
}

// WeChat appends " rid: 60a1b2c3-4d5e6f70-11223344" to errmsg; older answers have
// " hint: [AbC123]" instead.
var (
	ridAtEnd  = regexp.MustCompile(`[ ,]*\brid: *([0-9A-Za-z]+(?:-[0-9A-Za-z]+)*)\s*$`)
	hintAtEnd = regexp.MustCompile(`[ ,]*\bhint: *\[([^\]]*)\]\s*$`)
)

// maxMessageBytes bounds a stored errmsg; WeChat's own messages are one line long.
const maxMessageBytes = 1024

// message splits errmsg into the redacted text, on one line, and WeChat's request id. The
// result goes into logs, asynq's last error and tables on terminals.
func (sensitive sensitiveValues) message(errmsg string) (msg, rid string) {
	if errmsg == "ok" { // the common case
		return errmsg, ""
	}
	msg, rid = splitRID(errmsg)
	return printable.Escape(shorten(sensitive.redact(msg))), printable.Escape(shorten(sensitive.redact(rid)))
}

// shorten truncates s to maxMessageBytes at a character boundary.
func shorten(s string) string {
	if len(s) <= maxMessageBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessageBytes], "") + "…"
}

// splitRID separates errmsg from WeChat's request id.
func splitRID(errmsg string) (msg, rid string) {
	for _, pattern := range []*regexp.Regexp{ridAtEnd, hintAtEnd} {
		if at := pattern.FindStringSubmatchIndex(errmsg); at != nil {
			return errmsg[:at[0]], strings.TrimSpace(errmsg[at[2]:at[3]])
		}
	}
	return strings.TrimSpace(errmsg), ""
}
