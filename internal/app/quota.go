package app

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/wxcourier/wxcourier/internal/dispatch"
	"github.com/wxcourier/wxcourier/ratelimit"
	"github.com/wxcourier/wxcourier/wechat"
)

// QuotaReport is what WeChat answered about the quota of one type, and what became of our count.
type QuotaReport struct {
	App     string    `json:"app"`
	Type    string    `json:"type"`
	Asked   time.Time `json:"asked,omitzero"` // by Redis' clock
	Error   string    `json:"error,omitempty"`
	Limit   int64     `json:"wechat_limit"`  // of the day; 0: none
	Used    int64     `json:"wechat_used"`   // today
	Counted bool      `json:"wechat_counts"` // the answer has a count that can be believed where it is low
	Before  int64     `json:"count_before"`  // our count of the type's own limit of the day
	After   int64     `json:"count_after"`

	// Settle is how long after a call WeChat's count must be asked for to be believed where it is lower.
	Settle time.Duration `json:"-"`
	// Windows are those of the type afterwards.
	Windows []ratelimit.Usage `json:"windows"`
}

// AskQuotas asks WeChat for the quotas of some types of an app, and of the types that share a limit
// of the day with them. It stores the limits, and believes counts that went down as far as no call
// can be missing in them. All replicas then check their limits again.
//
// A report with an Error changed nothing. err is an error of Redis.
func (p *Parts) AskQuotas(ctx context.Context, app string, types []string) (reports []QuotaReport, err error) {
	types = p.withShared(app, types)
	before, err := p.usageOf(ctx, app, types)
	if err != nil {
		return nil, err
	}
	reader := dispatch.QuotaReader{WeChat: p.WeChat, Limiter: p.Limiter, Attempt: p.Config.WeChat.AttemptTimeout}
	settle := dispatch.SettleTime(reader.Attempt)
	var unanswered error // by WeChat; the other queries would meet it, too
	for i, typ := range types {
		report := QuotaReport{App: app, Type: typ, Settle: settle, Before: dayOf(before[i], typ).Used}
		var quota wechat.Quota
		failure := unanswered
		if failure == nil {
			quota, report.Asked, failure = reader.Ask(ctx, app, typ)
		}
		var api *wechat.APIError
		switch {
		case failure == nil:
			report.Limit, report.Used, report.Counted = quota.DailyLimit, quota.Used, dispatch.Countable(quota)
		case errors.As(failure, &api):
			report.Error = failure.Error()
		default:
			report.Error, unanswered = failure.Error(), failure
		}
		reports = append(reports, report)
	}
	if err := p.learnShared(ctx, app, reports); err != nil {
		return nil, err
	}
	after, err := p.usageOf(ctx, app, types)
	if err != nil {
		return nil, err
	}
	for i := range reports {
		reports[i].Windows, reports[i].After = after[i], dayOf(after[i], types[i]).Used
	}
	return reports, p.Holds.Announce(ctx, app)
}

// withShared returns types and those that share a limit of the day with one of them.
func (p *Parts) withShared(app string, types []string) []string {
	all := slices.Clone(types)
	for _, typ := range types {
		for _, group := range p.Limiter.SharedDays(app, typ) {
			all = append(all, group.Members...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// learnShared stores the counts of groups of which WeChat has counted all members.
func (p *Parts) learnShared(ctx context.Context, app string, reports []QuotaReport) error {
	byType := make(map[string]QuotaReport, len(reports))
	for _, r := range reports {
		if r.Error == "" && r.Counted {
			byType[r.Type] = r
		}
	}
	done := make(map[string]bool)
	for _, r := range reports {
		for _, group := range p.Limiter.SharedDays(app, r.Type) {
			if done[group.Name] {
				continue
			}
			done[group.Name] = true
			shared, complete := ratelimit.Learned{Asked: r.Asked, Settle: r.Settle}, true
			for _, member := range group.Members {
				m, ok := byType[member]
				complete = complete && ok
				shared.UsedToday += m.Used
				if m.Asked.Before(shared.Asked) {
					shared.Asked = m.Asked
				}
			}
			if !complete {
				continue
			}
			if err := p.Limiter.LearnShared(ctx, app, group.Name, shared); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *Parts) usageOf(ctx context.Context, app string, types []string) ([][]ratelimit.Usage, error) {
	of := make([]ratelimit.AppType, len(types))
	for i, typ := range types {
		of[i] = ratelimit.AppType{App: app, Type: typ}
	}
	return p.Limiter.UsageMany(ctx, of)
}

// dayOf returns the limit of the day of a type's own row.
func dayOf(windows []ratelimit.Usage, typ string) ratelimit.Usage {
	for _, u := range windows {
		if u.Name == typ && u.Window == ratelimit.PerDay {
			return u
		}
	}
	return ratelimit.Usage{}
}
