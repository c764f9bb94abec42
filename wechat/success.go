package wechat

import (
	"bytes"
	"encoding/json"
	"slices"
)

// successRow names the field that an endpoint returns on success besides errcode 0. An answer
// with neither errcode 0 nor errmsg "ok" is a success only if it has that field; see
// Answer.missing.
type successRow struct {
	endpoint Endpoint
	field    string              // its name in the answer
	value    func(Answer) string // "" if the answer does not have it
	// required: without the field the answer is invalid, even with errcode 0, because the
	// field is the result of the call.
	required bool
}

// successRows follow WeChat's page of each endpoint. An endpoint without a row returns only
// errcode and errmsg: bizsend, custom/send, uniform_send, template/subscribe, clear_quota.
// givesImage lists the endpoints that return an image.
var successRows = []successRow{
	// subscribe/send is documented without msgid and returns one; template/send is
	// documented with it. Errcode 0 alone means success for both.
	{EndpointSubscribe, "msgid", func(a Answer) string { return a.MsgID }, false},
	{EndpointTemplate, "msgid", func(a Answer) string { return a.MsgID }, false},
	{EndpointScheme, "openlink", func(a Answer) string { return a.OpenLink }, true},
	{EndpointNFCScheme, "openlink", func(a Answer) string { return a.OpenLink }, true},
	{EndpointURLLink, "url_link", func(a Answer) string { return a.URLLink }, true},
	{EndpointShortLink, "link", func(a Answer) string { return a.Link }, true},
	// Version 2 returns a result; version 1 does not, see errcodeIsVerdict.
	{EndpointTextCheck, "result.suggest", func(a Answer) string { return a.Suggest }, true},
	// The verdict arrives later in a push with the trace_id.
	{EndpointMediaCheck, "trace_id", func(a Answer) string { return a.TraceID }, true},
}

func successRowOf(ep Endpoint) (successRow, bool) {
	i := slices.IndexFunc(successRows, func(row successRow) bool { return row.endpoint == ep })
	if i < 0 {
		return successRow{}, false
	}
	return successRows[i], true
}

// givesImage reports whether the endpoint returns the bytes of an image.
func givesImage(ep Endpoint) bool {
	return ep == EndpointUnlimitedCode || ep == EndpointCode || ep == EndpointQRCode
}

// missing returns why the answer is not a success of its endpoint, "" if it is one.
// explicitOK reports whether the answer has errcode 0 or errmsg "ok".
func (a Answer) missing(explicitOK bool) string {
	if givesImage(a.Endpoint) {
		return "JSON without an error where an image was expected"
	}
	row, ok := successRowOf(a.Endpoint)
	hasField := ok && row.value(a) != ""
	switch {
	case hasField:
		return ""
	case ok && row.required:
		return "no " + row.field + " in the answer"
	case !explicitOK:
		return "not an answer from WeChat: no errcode"
	}
	return ""
}

// errcodeIsVerdict reports whether errcode 0 is the whole verdict of a content check. Version 1
// of the checks returns 0 or 87014 and no result; 0 means "pass". The image check has only
// version 1; the text check uses it when the request names no other version.
func errcodeIsVerdict(ep Endpoint, request []byte) bool {
	if ep != EndpointTextCheck {
		return ep == EndpointImageCheck
	}
	var v struct {
		Version text `json:"version"`
	}
	return json.Unmarshal(bytes.TrimSpace(request), &v) == nil && (v.Version == "" || v.Version == "1")
}
