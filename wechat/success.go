package wechat

import (
	"bytes"
	"encoding/json"
	"slices"
)

// successRow says what an endpoint's answer to a request that WeChat took carries beside
// errcode 0. An answer that says neither errcode 0 nor errmsg "ok" is a success only if it
// carries that; see Answer.missing.
type successRow struct {
	endpoint Endpoint
	field    string              // as the answer names it
	value    func(Answer) string // "" when the answer does not carry it
	// required: an answer without the field is no answer, whatever its errcode, since the
	// field is what the caller asked for.
	required bool
}

// The rows, by WeChat's page of each endpoint. An endpoint without a row answers errcode
// and errmsg alone: bizsend, custom/send, uniform_send, template/subscribe, clear_quota.
// The endpoints that answer an image are in givesImage.
var successRows = []successRow{
	// subscribe/send is documented without msgid and gives one; template/send is
	// documented with it. Errcode 0 alone is WeChat's word for both.
	{EndpointSubscribe, "msgid", func(a Answer) string { return a.MsgID }, false},
	{EndpointTemplate, "msgid", func(a Answer) string { return a.MsgID }, false},
	{EndpointScheme, "openlink", func(a Answer) string { return a.OpenLink }, true},
	{EndpointNFCScheme, "openlink", func(a Answer) string { return a.OpenLink }, true},
	{EndpointURLLink, "url_link", func(a Answer) string { return a.URLLink }, true},
	{EndpointShortLink, "link", func(a Answer) string { return a.Link }, true},
	// Version 2 answers a result; version 1 does not, see passesV1.
	{EndpointTextCheck, "result.suggest", func(a Answer) string { return a.Suggest }, true},
	// The verdict follows in a push that names the trace_id.
	{EndpointMediaCheck, "trace_id", func(a Answer) string { return a.TraceID }, true},
}

func successRowOf(ep Endpoint) (successRow, bool) {
	i := slices.IndexFunc(successRows, func(row successRow) bool { return row.endpoint == ep })
	if i < 0 {
		return successRow{}, false
	}
	return successRows[i], true
}

// givesImage tells whether the endpoint answers the bytes of an image.
func givesImage(ep Endpoint) bool {
	return ep == EndpointUnlimitedCode || ep == EndpointCode || ep == EndpointQRCode
}

// missing says what an answer lacks to be a success of its endpoint, "" when nothing. said
// tells whether the answer says errcode 0 or errmsg "ok".
func (a Answer) missing(said bool) string {
	if givesImage(a.Endpoint) {
		return "JSON without an error where an image was expected"
	}
	row, ok := successRowOf(a.Endpoint)
	carries := ok && row.value(a) != ""
	switch {
	case carries:
		return ""
	case ok && row.required:
		return "no " + row.field + " in the answer"
	case !said:
		return "JSON that is not WeChat's: no errcode"
	}
	return ""
}

// errcodeIsVerdict tells whether errcode 0 is the whole verdict of a content check. Version 1 of
// the checks answers 0 or 87014 and has no result; 0 is its "pass". The image check has
// version 1 alone; of the text check it is the version of a request that names no other.
func errcodeIsVerdict(ep Endpoint, request []byte) bool {
	switch ep {
	case EndpointImageCheck:
		return true
	case EndpointTextCheck:
		var v struct {
			Version text `json:"version"`
		}
		return json.Unmarshal(bytes.TrimSpace(request), &v) == nil && (v.Version == "" || v.Version == "1")
	}
	return false
}
