package sandbox

import (
	"encoding/json"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ridLife is how long WeChat resolves a request id.
const ridLife = 7 * 24 * time.Hour

// ridRequest is the body of rid/get: the request id at the end of an errmsg.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/openApi-mgnt/api_getridinfo.html
type ridRequest struct {
	anonymous
	RID string `json:"rid"`
}

func (q *ridRequest) check(env *checkEnv) *refusal {
	if !env.rid.MatchString(q.RID) {
		return refuse(76002)
	}
	return nil
}

func newRIDPattern() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{8}){2}$`) }

// grantRID finds the call among the kept ones. A rid starts with its time, which distinguishes an expired rid from an unknown
// one.
func grantRID(s *Server, x *exchange) *refusal {
	q, _ := x.req.(*ridRequest)
	seconds, err := strconv.ParseInt(q.RID[:8], 16, 64)
	if err != nil {
		return refuse(76002)
	}
	if x.at.Sub(time.Unix(seconds, 0)) > ridLife {
		return refuse(76004)
	}
	ring := s.state.log.ring
	for i := range ring {
		if !strings.HasSuffix(ring[i].ErrMsg, q.RID) {
			continue
		}
		if ring[i].App != x.app.id {
			return &refusal{76003, "could not query this rid"}
		}
		found := ring[i]
		x.foundCall = &found
		return nil
	}
	return refuse(76001)
}

// ridFigures is WeChat's information about a call, without its token.
type ridFigures struct {
	InvokeTime   int64  `json:"invoke_time"`
	CostInMS     int64  `json:"cost_in_ms"`
	RequestURL   string `json:"request_url"`
	RequestBody  string `json:"request_body"`
	ResponseBody string `json:"response_body"`
	ClientIP     string `json:"client_ip"`
}

func answerRID(_ *Server, x *exchange) reply {
	c := x.foundCall
	ip, _, err := net.SplitHostPort(c.remoteAddr)
	if err != nil {
		ip = c.remoteAddr
	}
	answered, err := json.Marshal(plainAnswer{c.ErrCode, c.ErrMsg})
	if err != nil {
		panic(err) // an int and a string always encode
	}
	return jsonReply(struct {
		plainAnswer
		Request ridFigures `json:"request"`
	}{plainAnswer{ErrMsg: "ok"}, ridFigures{
		InvokeTime: c.At.Unix(), CostInMS: c.Duration.Milliseconds(), RequestURL: c.Path + "?access_token=xxxxxxxx",
		RequestBody: string(c.Body), ResponseBody: string(answered), ClientIP: ip,
	}})
}
