package consent

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// SummaryDays is how many days operators see, today included.
const SummaryDays = 7

// Summary is what the checks of the last days amount to, for operators.
type Summary struct {
	Days       int   `json:"days"`       // today included
	Allowed    int64 `json:"allowed"`    // messages to persons with a credit or a long-term consent
	Unknown    int64 `json:"unknown"`    // messages to persons of whom nothing is known that speaks against it
	Stopped    int64 `json:"stopped"`    // enforce: messages that were refused without a call
	WouldSave  int64 `json:"would_save"` // observe: calls that met 43101, and enforce would have saved
	Wrong      int64 `json:"wrong"`      // observe: messages that enforce would have refused, and WeChat accepted
	Missed     int64 `json:"missed"`     // calls that met 43101 although a credit was believed left
	Unforeseen int64 `json:"unforeseen"` // calls that met 43101, to persons of whom nothing was known
	Errors     int64 `json:"errors"`     // checks that Redis did not answer
}

// WrongShare returns which share of the messages that enforce would have refused WeChat accepted.
func (s Summary) WrongShare() float64 {
	return float64(s.Wrong) / float64(max(1, s.Wrong+s.WouldSave))
}

// Summaries returns the summaries of some apps, in one round trip.
func Summaries(ctx context.Context, rdb redis.UniversalClient, apps []string, now time.Time) (map[string]Summary, error) {
	days, err := countsOf(ctx, rdb, apps, now, SummaryDays)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Summary, len(apps))
	for _, app := range apps {
		n := Total(days[app])
		all[app] = Summary{
			Days: SummaryDays, Allowed: n[CheckAllowed], Unknown: n[CheckUnknown], Stopped: n[CheckStopped],
			WouldSave: n[CheckRight], Wrong: n[CheckWrong], Missed: n[CheckMissed], Unforeseen: n[CheckUnforeseen], Errors: n[CheckError],
		}
	}
	return all, nil
}
