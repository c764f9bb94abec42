package sandbox

import (
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/sandbox/internal/madeup"
)

const datacubeDay = "20060102"

// dateRange is the range of days in a request; its end is yesterday at the latest.
type dateRange struct {
	Begin string `json:"begin_date"`
	End   string `json:"end_date"`
}

// check accepts ranges whose end is one of the given numbers of days after the begin.
func (d dateRange) check(now time.Time, spans ...int) *refusal {
	begin, wrong := shanghaiDate(d.Begin)
	end, alsoWrong := shanghaiDate(d.End)
	if wrong != nil || alsoWrong != nil {
		return refuse(61500)
	}
	days := shanghaiDay(end) - shanghaiDay(begin)
	if !slices.Contains(spans, int(days)) || shanghaiDay(end) >= shanghaiDay(now) {
		return refuse(61501)
	}
	return nil
}

func shanghaiDate(text string) (time.Time, error) {
	return time.ParseInLocation(datacubeDay, text, time.FixedZone("Asia/Shanghai", 8*3600))
}

// trendRequest is the body of getweanalysisappiddailyvisittrend.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/data-analysis/visit-trend/api_getdailyvisittrend.html
type trendRequest struct {
	anonymous
	dateRange
}

func (q *trendRequest) check(env *checkEnv) *refusal { return q.dateRange.check(env.now(), 0) }

// visits holds the made-up visits of one day.
type visits struct {
	RefDate         string  `json:"ref_date"`
	SessionCount    uint64  `json:"session_cnt"`
	VisitPV         uint64  `json:"visit_pv"`
	VisitUV         uint64  `json:"visit_uv"`
	VisitUVNew      uint64  `json:"visit_uv_new"`
	StayTimeUV      float64 `json:"stay_time_uv"`      // seconds
	StayTimeSession float64 `json:"stay_time_session"` // seconds
	VisitDepth      float64 `json:"visit_depth"`
}

func answerTrend(_ *Server, x *exchange) reply {
	q, _ := x.req.(*trendRequest)
	people := 100 + madeup.Number("visits", x.app.id, q.Begin)%10_000
	sessions := people + people/4
	return jsonReply(map[string][]visits{"list": {{
		RefDate: q.Begin, SessionCount: sessions, VisitPV: 3 * sessions, VisitUV: people, VisitUVNew: people / 10,
		StayTimeUV: 112.5, StayTimeSession: 90, VisitDepth: 2.5,
	}}})
}

// portraitRequest is the body of getweanalysisappiduserportrait.
// Source: https://developers.weixin.qq.com/miniprogram/dev/server/API/data-analysis/others/api_getuserportrait.html
type portraitRequest struct {
	anonymous
	dateRange
}

func (q *portraitRequest) check(env *checkEnv) *refusal {
	return q.dateRange.check(env.now(), 0, 6, 29)
}

// share is the number of users with one property.
type share struct {
	ID    int    `json:"id"`
	Name  string `json:"name"`
	Value uint64 `json:"value"`
}

// portrait divides the users of a period by their properties.
type portrait struct {
	Province  []share `json:"province"`
	City      []share `json:"city"`
	Genders   []share `json:"genders"`
	Platforms []share `json:"platforms"`
	Devices   []share `json:"devices"`
	Ages      []share `json:"ages"`
}

func portraitOf(people uint64) portrait {
	divide := func(names ...string) []share {
		shares, left := make([]share, 0, len(names)), people
		for i, name := range names {
			part := left
			if i < len(names)-1 {
				part = left * 3 / 5
			}
			shares = append(shares, share{i + 1, name, part})
			left -= part
		}
		return shares
	}
	return portrait{
		Province:  divide("广东", "浙江", "北京"),
		City:      divide("广州", "杭州", "北京"),
		Genders:   divide("女", "男", "未知"),
		Platforms: divide("Android", "iPhone", "其他"),
		Devices:   divide("HUAWEI Mate 60", "iPhone 15"),
		Ages:      divide("25-29岁", "30-39岁", "18-24岁", "未知"),
	}
}

func answerPortrait(_ *Server, x *exchange) reply {
	q, _ := x.req.(*portraitRequest)
	date := q.Begin
	if q.End != q.Begin {
		date += "-" + q.End
	}
	people := 100 + madeup.Number("portrait", x.app.id, date)%10_000
	return jsonReply(struct {
		RefDate    string   `json:"ref_date"`
		VisitUVNew portrait `json:"visit_uv_new"`
		VisitUV    portrait `json:"visit_uv"`
	}{date, portraitOf(people / 10), portraitOf(people)})
}
