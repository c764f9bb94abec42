package sandbox

import (
	"bytes"
	"encoding/json"
	"net/http"
	"unicode/utf8"
)

// The endpoints, by their paths on api.weixin.qq.com.
const (
	pathToken            = "/cgi-bin/token"        //nolint:gosec // a path, not a credential
	pathStableToken      = "/cgi-bin/stable_token" //nolint:gosec // a path, not a credential
	pathQuota            = "/cgi-bin/openapi/quota/get"
	pathClearQuota       = "/cgi-bin/clear_quota"
	pathClearQuotaV2     = "/cgi-bin/clear_quota/v2"
	pathRID              = "/cgi-bin/openapi/rid/get"
	pathTemplates        = "/wxaapi/newtmpl/gettemplate"
	pathAccountTemplates = "/cgi-bin/template/get_all_private_template"
	pathSubscribe        = "/cgi-bin/message/subscribe/send"
	pathTemplate         = "/cgi-bin/message/template/send"
	pathBizSubscribe     = "/cgi-bin/message/subscribe/bizsend"
	pathCustom           = "/cgi-bin/message/custom/send"
	pathUniform          = "/cgi-bin/message/wxopen/template/uniform_send"
	pathScheme           = "/wxa/generatescheme"
	pathURLLink          = "/wxa/generate_urllink"
	pathNFCScheme        = "/wxa/generatenfcscheme"
	pathShortLink        = "/wxa/genwxashortlink"
	pathUnlimited        = "/wxa/getwxacodeunlimit"
	pathCode             = "/wxa/getwxacode"
	pathQRCode           = "/cgi-bin/wxaapp/createwxaqrcode"
	pathTextCheck        = "/wxa/msg_sec_check"
	pathImageCheck       = "/wxa/img_sec_check"
	pathMediaCheck       = "/wxa/media_check_async"
	pathSession          = "/sns/jscode2session"
	pathPhone            = "/wxa/business/getuserphonenumber"
	pathLive             = "/wxa/business/getliveinfo"
	pathVisitTrend       = "/datacube/getweanalysisappiddailyvisittrend"
	pathPortrait         = "/datacube/getweanalysisappiduserportrait"
)

// kind is the purpose of an endpoint; the call log treats kinds differently.
type kind uint8

const (
	kindToken   kind = iota // issues tokens
	kindAccount             // concerns the account: quotas, templates
	kindMessage             // reaches a person; the same message twice is a duplicate
	kindProduct             // returns a product: links, codes, checks, logins, figures
)

// endpoint is one row of the endpoint table: how to decode a call, identify its app, carry it out and answer it.
type endpoint struct {
	path      string
	method    string
	kind      kind
	secret    bool // the request has the app secret instead of a token: its body is not kept
	exclusive bool // one call to an openid at a time, else 43108
	credits   bool // uses up one subscription of the person
	decode    func(r *http.Request, body []byte) (request, *refusal)
	identify  func(*Server, *exchange) *refusal
	grant     func(*Server, *exchange) *refusal // nil: nothing to do; called under the server's mutex
	answer    func(*Server, *exchange) reply
	event     func(*exchange) event // what is pushed after an accepted call; nil: nothing
}

func endpoints() []endpoint {
	get, post := http.MethodGet, http.MethodPost
	return []endpoint{
		{path: pathToken, method: get, kind: kindToken, secret: true, decode: decodeTokenQuery, identify: identifyByCredentials, grant: grantClassic, answer: answerToken},
		{path: pathStableToken, method: post, kind: kindToken, secret: true, decode: decodeJSON[tokenRequest], identify: identifyByCredentials, grant: grantStable, answer: answerToken},
		{path: pathQuota, method: post, kind: kindAccount, decode: decodeJSON[quotaRequest], identify: identifyByToken, grant: grantQuota, answer: answerQuota},
		{path: pathClearQuota, method: post, kind: kindAccount, decode: decodeJSON[clearRequest], identify: identifyByToken, grant: grantClear, answer: answerOK},
		{path: pathClearQuotaV2, method: post, kind: kindAccount, secret: true, decode: decodeClearSecret, identify: identifyByCredentials, grant: grantClear, answer: answerOK},
		{path: pathRID, method: post, kind: kindAccount, decode: decodeJSON[ridRequest], identify: identifyByToken, grant: grantRID, answer: answerRID},
		{path: pathTemplates, method: get, kind: kindAccount, decode: decodeBare, identify: identifyByToken, answer: answerTemplates},
		{path: pathAccountTemplates, method: get, kind: kindAccount, decode: decodeBare, identify: identifyByToken, answer: answerAccountTemplates},

		{path: pathSubscribe, method: post, kind: kindMessage, exclusive: true, credits: true, decode: decodeJSON[subscribeRequest], identify: identifyByToken, grant: grantMessage, answer: answerMessageID, event: subscribeSent},
		{path: pathTemplate, method: post, kind: kindMessage, decode: decodeJSON[templateRequest], identify: identifyByToken, grant: grantMessage, answer: answerMessageID, event: templateSent},
		{path: pathBizSubscribe, method: post, kind: kindMessage, credits: true, decode: decodeJSON[bizRequest], identify: identifyByToken, grant: grantMessage, answer: answerMessageID, event: subscribeSent},
		{path: pathCustom, method: post, kind: kindMessage, decode: decodeJSON[customRequest], identify: identifyByToken, answer: answerOK},
		{path: pathUniform, method: post, kind: kindMessage, decode: decodeJSON[uniformRequest], identify: identifyByToken, answer: answerOK},

		{path: pathScheme, method: post, kind: kindProduct, decode: decodeJSON[schemeRequest], identify: identifyByToken, answer: answerScheme},
		{path: pathURLLink, method: post, kind: kindProduct, decode: decodeJSON[urlLinkRequest], identify: identifyByToken, answer: answerURLLink},
		{path: pathNFCScheme, method: post, kind: kindProduct, decode: decodeJSON[nfcRequest], identify: identifyByToken, answer: answerScheme},
		{path: pathShortLink, method: post, kind: kindProduct, decode: decodeJSON[shortLinkRequest], identify: identifyByToken, grant: grantShortLink, answer: answerShortLink},
		{path: pathUnlimited, method: post, kind: kindProduct, decode: decodeJSON[unlimitedRequest], identify: identifyByToken, answer: answerPicture},
		{path: pathCode, method: post, kind: kindProduct, decode: decodeJSON[codeRequest], identify: identifyByToken, grant: grantLimitedCode, answer: answerPicture},
		{path: pathQRCode, method: post, kind: kindProduct, decode: decodeJSON[qrCodeRequest], identify: identifyByToken, grant: grantLimitedCode, answer: answerPicture},

		{path: pathTextCheck, method: post, kind: kindProduct, decode: decodeJSON[textRequest], identify: identifyByToken, answer: answerTextCheck},
		{path: pathImageCheck, method: post, kind: kindProduct, decode: decodeImage, identify: identifyByToken, answer: answerOK},
		{path: pathMediaCheck, method: post, kind: kindProduct, decode: decodeJSON[mediaRequest], identify: identifyByToken, answer: answerMediaCheck, event: mediaChecked},

		{path: pathSession, method: get, kind: kindProduct, secret: true, decode: decodeSession, identify: identifyByCredentials, grant: grantSession, answer: answerSession},
		{path: pathPhone, method: post, kind: kindProduct, decode: decodeJSON[phoneRequest], identify: identifyByToken, grant: grantPhone, answer: answerPhone},
		{path: pathVisitTrend, method: post, kind: kindProduct, decode: decodeJSON[trendRequest], identify: identifyByToken, answer: answerTrend},
		{path: pathPortrait, method: post, kind: kindProduct, decode: decodeJSON[portraitRequest], identify: identifyByToken, answer: answerPortrait},
		{path: pathLive, method: post, kind: kindProduct, decode: decodeJSON[liveRequest], identify: identifyByToken, answer: answerLive},
	}
}

// request is a decoded body.
type request interface {
	receiver() string    // the openid, or ""
	template() string    // the template id, or ""
	faultSource() string // the text that may start with a fault's name
	check(*checkEnv) *refusal
}

// anonymous is embedded in requests without an openid and a template.
type anonymous struct{}

func (anonymous) receiver() string    { return "" }
func (anonymous) template() string    { return "" }
func (anonymous) faultSource() string { return "" }

// bareRequest is a request without parameters.
type bareRequest struct{ anonymous }

func (bareRequest) check(*checkEnv) *refusal { return nil }

func decodeBare(*http.Request, []byte) (request, *refusal) { return bareRequest{}, nil }

// decodeJSON reads a body that must be one JSON object whose fields have the documented types.
func decodeJSON[T any, P interface {
	*T
	request
}](_ *http.Request, body []byte) (request, *refusal) {
	req := P(new(T))
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		return req, refuse(44002)
	case trimmed[0] != '{', !utf8.Valid(trimmed):
		return req, refuse(47001)
	}
	if err := json.Unmarshal(trimmed, req); err != nil {
		return req, refuse(47001)
	}
	return req, nil
}

// number is an integer that may be a JSON string: some SDKs send strings, and WeChat accepts them.
type number int

// UnmarshalJSON accepts 2 and "2".
func (n *number) UnmarshalJSON(text []byte) error {
	if unquoted, quoted := bytes.CutPrefix(text, []byte{'"'}); quoted {
		text = bytes.TrimSuffix(unquoted, []byte{'"'})
	}
	return json.Unmarshal(text, (*int)(n))
}

// object is an optional JSON object. SDKs send "" or PHP's empty array for one that is absent.
type object[T any] struct{ Value T }

// UnmarshalJSON leaves Value as it is for "" and [].
func (o *object[T]) UnmarshalJSON(text []byte) error {
	switch string(bytes.TrimSpace(text)) {
	case `""`, "[]":
		return nil
	}
	return json.Unmarshal(text, &o.Value)
}

// escaped reports whether a JSON text has \uXXXX escapes, which some of WeChat's message endpoints display unconverted.
func escaped(body []byte) bool {
	for {
		i := bytes.IndexByte(body, '\\')
		if i < 0 || i+1 >= len(body) {
			return false
		}
		if body[i+1] == 'u' {
			return true
		}
		body = body[i+2:]
	}
}

// plainAnswer is an answer with errcode and errmsg only.
type plainAnswer struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
}
