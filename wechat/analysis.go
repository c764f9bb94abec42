package wechat

import (
	"context"
	"time"

	"github.com/wxcourier/wxcourier/internal/calendar"
)

// VisitTrend is the use of a mini program on one day.
type VisitTrend struct {
	Date         string // such as "20261201"
	Sessions     int64  // times that the mini program was opened
	PageViews    int64
	Visitors     int64
	NewVisitors  int64
	StayVisitor  time.Duration // on average, of a visitor
	StaySession  time.Duration // on average, of a session
	PagesVisited float64       // on average, of a session (visit_depth)
}

// dates is the body of an analysis. Both days are in the time of Asia/Shanghai.
type dates struct {
	Begin string `json:"begin_date"`
	End   string `json:"end_date"`
}

func datesOf(begin, end time.Time) dates {
	const form = "20060102"
	return dates{begin.In(calendar.Shanghai()).Format(form), end.In(calendar.Shanghai()).Format(form)}
}

// DailyVisitTrend returns the visits of the day of Asia/Shanghai that contains day, which must be
// yesterday or before (getDailyVisitTrend). The list has one entry, or none where WeChat has not
// counted that day yet.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/data-analysis/visit-trend/api_getdailyvisittrend.html
func (c *Client) DailyVisitTrend(ctx context.Context, app string, day time.Time) ([]VisitTrend, error) {
	return query(ctx, c, app, EndpointVisitTrend, datesOf(day, day), decodeVisitTrend)
}

func decodeVisitTrend(rep reply, sensitive sensitiveValues) ([]VisitTrend, error) {
	var v struct {
		status
		List *[]struct {
			Date        text    `json:"ref_date"`
			Sessions    number  `json:"session_cnt"`
			PageViews   number  `json:"visit_pv"`
			Visitors    number  `json:"visit_uv"`
			NewVisitors number  `json:"visit_uv_new"`
			StayVisitor float64 `json:"stay_time_uv"`
			StaySession float64 `json:"stay_time_session"`
			Depth       float64 `json:"visit_depth"`
		} `json:"list"`
	}
	if err := rep.decode(&v, &v.status, sensitive); err != nil {
		return nil, err
	}
	if v.List == nil {
		return nil, rep.answerError("no list in the answer")
	}
	trend := make([]VisitTrend, 0, len(*v.List))
	for _, d := range *v.List {
		trend = append(trend, VisitTrend{
			Date: string(d.Date), Sessions: d.Sessions.value, PageViews: d.PageViews.value,
			Visitors: d.Visitors.value, NewVisitors: d.NewVisitors.value,
			StayVisitor: seconds(d.StayVisitor), StaySession: seconds(d.StaySession), PagesVisited: d.Depth,
		})
	}
	return trend, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// UserPortrait divides the visitors of some days by their properties.
type UserPortrait struct {
	Dates       string // such as "20261201" or "20261201-20261207"
	NewVisitors Portrait
	Visitors    Portrait
}

// Portrait divides visitors by their properties.
type Portrait struct {
	Provinces, Cities, Genders, Platforms, Devices, Ages []PortraitShare
}

// PortraitShare is the number of visitors with one property.
type PortraitShare struct {
	ID       int64 // WeChat's number of the property; 0 where it has none
	Name     string
	Visitors int64
}

// UserPortrait returns who visited the mini program on the days of Asia/Shanghai from begin to end.
// WeChat has figures for 1, 7 and 30 days, up to yesterday.
// https://developers.weixin.qq.com/miniprogram/dev/server/API/data-analysis/others/api_getuserportrait.html
func (c *Client) UserPortrait(ctx context.Context, app string, begin, end time.Time) (UserPortrait, error) {
	return query(ctx, c, app, EndpointUserPortrait, datesOf(begin, end), decodeUserPortrait)
}

type portraitJSON struct {
	Province  []shareJSON `json:"province"`
	City      []shareJSON `json:"city"`
	Genders   []shareJSON `json:"genders"`
	Platforms []shareJSON `json:"platforms"`
	Devices   []shareJSON `json:"devices"`
	Ages      []shareJSON `json:"ages"`
}

type shareJSON struct {
	ID    number `json:"id"`
	Name  text   `json:"name"`
	Value number `json:"value"`
}

func (p portraitJSON) portrait() Portrait {
	return Portrait{
		Provinces: sharesOf(p.Province), Cities: sharesOf(p.City), Genders: sharesOf(p.Genders),
		Platforms: sharesOf(p.Platforms), Devices: sharesOf(p.Devices), Ages: sharesOf(p.Ages),
	}
}

func sharesOf(list []shareJSON) []PortraitShare {
	shares := make([]PortraitShare, 0, len(list))
	for _, s := range list {
		shares = append(shares, PortraitShare{s.ID.value, string(s.Name), s.Value.value})
	}
	return shares
}

func decodeUserPortrait(rep reply, sensitive sensitiveValues) (UserPortrait, error) {
	var v struct {
		status
		Dates       text          `json:"ref_date"`
		NewVisitors *portraitJSON `json:"visit_uv_new"`
		Visitors    *portraitJSON `json:"visit_uv"`
	}
	if err := rep.decode(&v, &v.status, sensitive); err != nil {
		return UserPortrait{}, err
	}
	if v.Visitors == nil || v.NewVisitors == nil {
		return UserPortrait{}, rep.answerError("no visitors in the answer")
	}
	return UserPortrait{Dates: string(v.Dates), NewVisitors: v.NewVisitors.portrait(), Visitors: v.Visitors.portrait()}, nil
}
