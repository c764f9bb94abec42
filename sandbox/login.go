package sandbox

import (
	"encoding/base64"
	"fmt"
	"net/http"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

// A code of wx.login or of a phone button can be used once. The sandbox accepts any code with valid characters and derives the
// answer from it.

// sessionRequest is the query of jscode2session.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/user-login/api_code2session.html
type sessionRequest struct {
	anonymous
	creds credentials
	code  string
}

func (q *sessionRequest) faultSource() string      { return q.code }
func (q *sessionRequest) credentials() credentials { return q.creds }
func (q *sessionRequest) check(*checkEnv) *refusal { return nil }

func decodeSession(r *http.Request, _ []byte) (request, *refusal) {
	query := r.URL.Query()
	creds := credentials{query.Get("appid"), query.Get("secret"), query.Get("grant_type") == "authorization_code"}
	return &sessionRequest{creds: creds, code: query.Get("js_code")}, nil
}

func grantSession(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*sessionRequest)
	return s.redeemCode(x, q.code, 40163)
}

// redeemCode marks a code as used; used is the errcode for one that was used before.
func (s *Server) redeemCode(x *exchange, code string, used int) *refusal {
	switch {
	case code == "":
		return refuse(41008)
	case !validOpenID(code): // codes have the same characters and length limit
		return refuse(40029)
	}
	key := s.hashOf(x.app.id, x.row.path, code)
	if _, again := s.state.redeemedCodes.Find(key, x.at); again {
		return refuse(used)
	}
	s.state.redeemedCodes.Add(key, x.at, struct{}{})
	return nil
}

// answerSession returns no errcode on success, as WeChat does.
func answerSession(_ *Server, x *exchange) reply {
	q, _ := x.req.(*sessionRequest)
	return jsonReply(struct {
		SessionKey string `json:"session_key"`
		OpenID     string `json:"openid"`
	}{base64.StdEncoding.EncodeToString(madeup.Bytes(16, "session", x.app.id, q.code)), "o" + madeup.Name(27, "openid", x.app.id, q.code)})
}

// phoneRequest is the body of getuserphonenumber.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/user-info/phone-number/api_getphonenumber.html
type phoneRequest struct {
	anonymous
	Code string `json:"code"`
}

func (q *phoneRequest) faultSource() string      { return q.Code }
func (q *phoneRequest) check(*checkEnv) *refusal { return nil }

func grantPhone(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*phoneRequest)
	return s.redeemCode(x, q.Code, 40029)
}

// phoneInfo is a phone number with the app and time of the request.
type phoneInfo struct {
	PhoneNumber     string `json:"phoneNumber"`
	PurePhoneNumber string `json:"purePhoneNumber"`
	CountryCode     string `json:"countryCode"`
	Watermark       struct {
		Timestamp int64  `json:"timestamp"`
		AppID     string `json:"appid"`
	} `json:"watermark"`
}

func answerPhone(_ *Server, x *exchange) reply {
	q, _ := x.req.(*phoneRequest)
	phone := fmt.Sprintf("138%08d", madeup.Number("phone", x.app.id, q.Code)%100_000_000)
	info := phoneInfo{PhoneNumber: phone, PurePhoneNumber: phone, CountryCode: "86"}
	info.Watermark.Timestamp, info.Watermark.AppID = x.at.Unix(), x.app.id
	return jsonReply(struct {
		plainAnswer
		PhoneInfo phoneInfo `json:"phone_info"`
	}{plainAnswer{ErrMsg: "ok"}, info})
}
