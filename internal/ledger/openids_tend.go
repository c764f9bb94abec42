package ledger

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A day's lists are kept for longer while one of so many of its tasks waits: they then take less memory
// than what waits.
const openidTended = 20

// TendOpenIDs sets when the lists of the past days of an app's index of openids expire: once for each day,
// since a producer may have another retention, or have died before it did; and later for those of whose
// tasks many wait. waiting is the number of the
// app's tasks without an outcome by the day on which they were enqueued, see Day, since their marks do
// not have the day on which they are due. It returns the number
// of commands sent. Call it at least once in half a day.
func (l *Ledger) TendOpenIDs(ctx context.Context, app string, waiting map[int64]int, now time.Time) (commands int, err error) {
	if !l.policy.IndexOpenIDs {
		return 0, nil
	}
	days, err := l.openidDays(ctx, []string{app})
	if commands++; err != nil {
		return commands, err
	}
	for _, d := range days[app] {
		if d.day >= openidDay(now) {
			continue
		}
		expiry := max(d.expiry, l.openidExpiry(d.day))
		kept := now.Add(l.policy.Retention + openidSlack).Unix()
		if waiting[d.day] > 0 && kept-expiry >= int64(openidSlack/time.Second)/2 {
			elements, err := l.sizeOfDay(ctx, app, d.day)
			if commands += openidSamples; err != nil {
				return commands, err
			}
			if waiting[d.day]*openidTended >= elements {
				expiry = kept
			}
		}
		if expiry == d.expiry && d.tended {
			continue
		}
		n, err := l.extendDay(ctx, app, d.day, expiry)
		if commands += n; err != nil {
			return commands, err
		}
	}
	return commands, nil
}

// Day returns the day of a time for TendOpenIDs.
func Day(t time.Time) int64 { return openidDay(t) }

// openidSamples is how many lists of a day are counted.
const openidSamples = 16

// sizeOfDay estimates the number of elements in the lists of a day.
func (l *Ledger) sizeOfDay(ctx context.Context, app string, day int64) (int, error) {
	lengths := make([]*redis.IntCmd, openidSamples)
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range lengths {
			lengths[i] = p.LLen(ctx, openidsKey(app, day, i))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("count the index of openids: %w", err)
	}
	elements := 0
	for _, length := range lengths {
		elements += int(length.Val()) * openidBuckets / openidSamples
	}
	return elements, nil
}

// extendDayScript sets when lists of the index of openids expire.
//
// KEYS lists, the last one the days of the index. ARGV[1] expiry in seconds since 1970, ARGV[2] day, ""
// before the last call for it
var extendDayScript = redis.NewScript(`
for i = 1, #KEYS - 1 do redis.call("EXPIREAT", KEYS[i], ARGV[1]) end
if ARGV[2] ~= "" then redis.call("ZADD", KEYS[#KEYS], "XX", ARGV[1] .. ".5", ARGV[2]) end
return 1
`)

// extendDay sets when the lists of a day expire. It returns the number of commands sent.
func (l *Ledger) extendDay(ctx context.Context, app string, day, expiry int64) (commands int, err error) {
	const perCall = 128
	for from := 0; from < openidBuckets; from += perCall {
		keys, done := make([]string, 0, perCall+1), ""
		for bucket := from; bucket < from+perCall; bucket++ {
			keys = append(keys, openidsKey(app, day, bucket))
		}
		if from+perCall == openidBuckets {
			done = strconv.FormatInt(day, 10)
		}
		err := extendDayScript.Run(ctx, l.rdb, append(keys, openidDaysKey(app)), expiry, done).Err()
		if commands++; err != nil {
			return commands, fmt.Errorf("extend the index of openids: %w", err)
		}
	}
	return commands, nil
}
