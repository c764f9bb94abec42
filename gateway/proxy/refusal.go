package proxy

import (
	"cmp"
	"fmt"
	"net/http"
)

// A Refusal is an answer of the gateway itself, in WeChat's form. WeChat was not called, unless
// Unknown is set.
type Refusal struct {
	Code    int    // an errcode of WeChat's that SDKs know
	Msg     string // WeChat's words for the code, as far as SDKs look at them
	Why     string // what the gateway says about it
	Status  int    // of HTTP; 0: 200, as WeChat answers
	Unknown bool   // the request was written, and may have been carried out: it must not be repeated
}

// Error implements error. It is the errmsg.
func (r *Refusal) Error() string { return fmt.Sprintf("%s (wxcourier: %s)", r.Msg, r.Why) }

// refusalBody is the body of a Refusal.
type refusalBody struct {
	ErrCode int    `json:"errcode"`
	ErrMsg  string `json:"errmsg"`
}

func (r *Refusal) write(w http.ResponseWriter) {
	writeJSON(w, cmp.Or(r.Status, http.StatusOK), refusalBody{r.Code, r.Error()})
}

// because returns the refusal with another explanation.
func (r *Refusal) because(format string, args ...any) *Refusal {
	other := *r
	other.Why = fmt.Sprintf(format, args...)
	return &other
}

// The refusals. EasyWeChat renews its token at "42001" with "access_token expired", other SDKs at
// 40001 and 42001. -1 is a request that was certainly not carried out: WxJava repeats it.
var (
	errMethod = &Refusal{Code: 43002, Msg: "require POST method", Why: "only GET and POST are passed on", Status: http.StatusMethodNotAllowed}
	errPath   = &Refusal{Code: 40097, Msg: "invalid args", Why: "the path is not a plain path of WeChat's", Status: http.StatusNotFound}

	errPost      = &Refusal{Code: 43002, Msg: "require POST method", Why: "stable_token takes a POST with JSON"}
	errForm      = &Refusal{Code: 47001, Msg: "data format error", Why: "the request cannot be read"}
	errGrant     = &Refusal{Code: 40002, Msg: "invalid grant_type", Why: "grant_type must be client_credential"}
	errNoAppID   = &Refusal{Code: 41002, Msg: "appid missing", Why: "the request names no app"}
	errNoKey     = &Refusal{Code: 41004, Msg: "appsecret missing", Why: "a key of the gateway belongs in place of the secret"}
	errWrongKey  = &Refusal{Code: 40125, Msg: "invalid appsecret", Why: "a key of the gateway belongs in place of the secret, and this is none, or it was revoked or has expired"}
	errApp       = &Refusal{Code: 40013, Msg: "invalid appid", Why: "the key may not use this app, or it is not configured"}
	errScope     = &Refusal{Code: 48001, Msg: "api unauthorized", Why: "the key does not have the scope call"}
	errNoSecret  = &Refusal{Code: 40125, Msg: "invalid appsecret", Why: "no secret of this app is configured in the gateway"}
	errKeyRate   = &Refusal{Code: 45011, Msg: "api minute-quota reach limit", Why: "the rate of the gateway's key is exceeded, not a limit of WeChat"}
	errNoTicket  = &Refusal{Code: 41001, Msg: "access_token missing", Why: "get one from /wechat/cgi-bin/stable_token"}
	errTicket    = &Refusal{Code: 40001, Msg: "invalid credential, access_token is invalid or not latest", Why: "this is no token of the gateway; WeChat's own are not taken"}
	errExpired   = &Refusal{Code: 42001, Msg: "access_token expired", Why: "get a new one from the gateway"}
	errTicketApp = &Refusal{Code: 40001, Msg: "invalid credential, access_token is invalid or not latest", Why: "the app of the token is no longer configured"}

	errTicketRevoked  = &Refusal{Code: 40001, Msg: "invalid credential, access_token is invalid or not latest", Why: "the key of the token was revoked, changed or has expired"}
	errPathNotAllowed = &Refusal{Code: 48001, Msg: "api unauthorized", Why: "the key may not call this path; its paths say which it may"}

	errTooLarge = &Refusal{Code: 45002, Msg: "content size out of limit", Why: "the body is too large", Status: http.StatusRequestEntityTooLarge}
	errBody     = &Refusal{Code: 44002, Msg: "empty post data", Why: "the body could not be read", Status: http.StatusBadRequest}

	errIdempotencyKey = &Refusal{Code: 40097, Msg: "invalid args", Why: "an Idempotency-Key has 1 to 128 of the characters A-Z a-z 0-9 . _ ~ -", Status: http.StatusBadRequest}
	errKeyReused      = &Refusal{Code: 40097, Msg: "invalid args", Why: "the Idempotency-Key was used for another request", Status: http.StatusUnprocessableEntity}
	errKeyUnderWay    = &Refusal{Code: -1, Msg: "system error", Why: "the first request with this Idempotency-Key is under way; repeat it with the same key", Status: http.StatusConflict}
	errContent        = &Refusal{Code: 47003, Msg: "argument invalid!", Why: "the content is not valid"}
	errReceiver       = &Refusal{Code: 40003, Msg: "invalid openid", Why: "only_openids of the app's configuration leaves this receiver out; not sent"}
	errNoConsent      = &Refusal{Code: 43101, Msg: "user refuse to accept the msg", Why: "by our own count of acceptances the person has none left for this template; WeChat was not called"}
	errNotSent        = &Refusal{Code: 40097, Msg: "invalid args", Why: "not sent"}

	errBusy        = &Refusal{Code: -1, Msg: "system error", Why: "not sent; try later"}
	errRedis       = &Refusal{Code: -1, Msg: "system error", Why: "Redis does not answer; not sent; try later"}
	errUnreachable = &Refusal{Code: -1, Msg: "system error", Why: "WeChat cannot be reached; not sent; try later"}
	errNoToken     = &Refusal{Code: -1, Msg: "system error", Why: "there is no access token of the app now; not sent; try later"}
	errNoAnswer    = &Refusal{
		Code: -1, Msg: "system error", Status: http.StatusGatewayTimeout, Unknown: true,
		Why: "WeChat got the request and did not answer; it may have been carried out: do not repeat a message",
	}
)
