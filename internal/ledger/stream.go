package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// trimLua removes from a stream the entries that are older than minimum (ms since 1970), and then
// those beyond the most that it may have (0: any number). It uses the variables stream and cut
// (keys), now, minimum and most. It is no function, since the script that settles would create that
// function for each task. Redis removes whole nodes of its tree only (some ten results each), and
// at most some 10,000 entries at a time, so that up to a node stays too long and no call takes
// long.
//
// The hash cut gets the fields `id`, the last entry that was removed, and `by`, the reason:
// "retention" or "length". Redis does not return which entries XTRIM removed; where several are
// possible, id is the latest. `removed` counts all entries that were ever removed.
//
// Readers (see Reader) hold the trimming back by three fields of cut: nothing from the entry `low`
// on is removed before `low_until` (ms since 1970), unless the stream has more than `low_max`
// entries. Beyond that, the oldest entries are removed up to low_max, or, without a maximum, up to
// the retention.
const trimLua = `
local function oldest()
	local first = redis.call("XRANGE", stream, "-", "+", "COUNT", 1)[1]
	if first then return first[1], tonumber(string.match(first[1], "^%d+")) end
end
local function before(id)
	local ms, seq = string.match(id, "^(%d+)-(%d+)$")
	if seq ~= "0" then return ms .. "-" .. string.format("%d", seq - 1) end
	return string.format("%d", ms - 1) .. "-18446744073709551615"
end
local held = redis.call("HMGET", cut, "low", "low_until", "low_max")
local low, low_until, low_max = held[1], tonumber(held[2] or ""), tonumber(held[3] or "")
local length, removed = redis.call("XLEN", stream), 0
if not low or not low_until or not low_max or low_until < now or most == 0 and length > low_max then low = nil end
local first, ms = oldest()
if first and minimum > 0 and ms < minimum then
	local last
	local bound = string.format("%d", minimum)
	if low and tonumber(string.match(low, "^%d+")) < minimum then
		bound = low
	else
		last = redis.call("XREVRANGE", stream, string.format("%d", minimum - 1), "-", "COUNT", 1)[1][1]
	end
	removed = redis.call("XTRIM", stream, "MINID", "~", bound)
	if removed > 0 then
		first, ms = oldest()
		redis.call("HSET", cut, "id", first and (not last or ms < minimum) and before(first) or last or low, "by", "retention")
	end
end
local excess = length - removed - most
if most > 0 and excess > 0 then
	local trimmed
	if low then
		trimmed = redis.call("XTRIM", stream, "MINID", "~", low, "LIMIT", math.min(excess, 200))
		low_max = math.max(low_max, most)
		if length - removed - trimmed > low_max then
			trimmed = trimmed + redis.call("XTRIM", stream, "MAXLEN", "~", string.format("%d", low_max))
		end
	else
		trimmed = redis.call("XTRIM", stream, "MAXLEN", "~", string.format("%d", most))
	end
	if trimmed > 0 then
		local now_first = oldest()
		redis.call("HSET", cut, "id", now_first and before(now_first) or first, "by", "length")
		removed = removed + trimmed
	end
end
if removed > 0 then redis.call("HINCRBY", cut, "removed", removed) end
`

// trimScript trims a stream to which nothing is being added.
//
// KEYS[1] stream, KEYS[2] its cut. ARGV[1] retention in ms, ARGV[2] maximum length or 0
var trimScript = redis.NewScript(`
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local stream, cut = KEYS[1], KEYS[2]
local minimum, most = now - ARGV[1], tonumber(ARGV[2])
` + trimLua + `
return 1
`)

// TrimStream removes from an app's stream what the policy does not keep. Settle does so as well,
// but an app may have no further outcomes.
func (l *Ledger) TrimStream(ctx context.Context, app string) error {
	err := trimScript.Run(ctx, l.rdb, []string{StreamKey(app), cutKey(app)},
		l.policy.streamRetention().Milliseconds(), l.policy.StreamMax).Err()
	if err != nil {
		return fmt.Errorf("trim the results: %w", err)
	}
	return nil
}

// Cut says what was removed from an app's stream.
type Cut struct {
	ID       string // of the last entry that was removed; "" if none was
	ByLength bool   // removed because of Policy.StreamMax, and not because of its age
	First    string // id of the oldest entry; "" for an empty stream
}

// Cut reads what was removed from an app's stream.
func (l *Ledger) Cut(ctx context.Context, app string) (Cut, error) {
	var (
		cut   *redis.SliceCmd
		first *redis.XMessageSliceCmd
	)
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		cut = p.HMGet(ctx, cutKey(app), "id", "by")
		first = p.XRangeN(ctx, StreamKey(app), "-", "+", 1)
		return nil
	})
	if err != nil {
		return Cut{}, fmt.Errorf("read the start of the results: %w", err)
	}
	return cutOf(cut.Val(), first.Val()), nil
}

// cutOf returns the Cut of the fields id and by, and of the oldest entry if there is one.
func cutOf(fields []any, first []redis.XMessage) Cut {
	c := newCut(fields)
	if len(first) > 0 {
		c.First = first[0].ID
	}
	return c
}

// After reports whether entries after the one with the given id were removed.
func (c Cut) After(id string) bool { return c.ID != "" && entryLess(id, c.ID) }

// Start returns the time to which the stream goes back: that of its oldest entry or, if it has
// none, of the last one that was removed.
func (c Cut) Start() time.Time {
	if c.First != "" {
		return EntryTime(c.First)
	}
	return EntryTime(c.ID)
}

// EntryTime returns the time in the id of an entry, and the zero time for an invalid id.
func EntryTime(id string) time.Time {
	ms, _, err := parseEntry(id)
	if err != nil || ms > 1<<62 {
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}

// entryLess compares the ids of two entries. An invalid id is that of no entry, and the first.
func entryLess(a, b string) bool {
	ms1, seq1, _ := parseEntry(a)
	ms2, seq2, _ := parseEntry(b)
	return ms1 < ms2 || ms1 == ms2 && seq1 < seq2
}

// parseEntry splits the id of an entry, <ms>-<sequence number> or <ms>.
func parseEntry(id string) (ms, seq uint64, err error) {
	first, second, found := strings.Cut(id, "-")
	ms, err = strconv.ParseUint(first, 10, 64)
	if found && err == nil {
		seq, err = strconv.ParseUint(second, 10, 64)
	}
	if err != nil {
		return 0, 0, errors.New("invalid id of an entry")
	}
	return ms, seq, nil
}

// StreamRead selects the entries of an app's stream after the one with an id.
type StreamRead struct{ App, After string }

// StreamPage is what ReadStreams returns for one app.
type StreamPage struct {
	Entries []redis.XMessage
	// Cut is what was removed from the stream: if Cut.After(StreamRead.After), entries before
	// Entries are missing. Cut.First is the first of Entries.
	Cut Cut
}

// ReadStreams reads up to count entries of each of some streams, in one round trip. The pages have
// the order of the reads.
func (l *Ledger) ReadStreams(ctx context.Context, reads []StreamRead, count int64) ([]StreamPage, error) {
	entries, cuts := make([]*redis.XMessageSliceCmd, len(reads)), make([]*redis.SliceCmd, len(reads))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, r := range reads { // the cut last, so that what is removed meanwhile counts
			entries[i] = p.XRangeN(ctx, StreamKey(r.App), "("+r.After, "+", count)
			cuts[i] = p.HMGet(ctx, cutKey(r.App), "id", "by")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	pages := make([]StreamPage, len(reads))
	for i := range reads {
		pages[i] = StreamPage{Entries: entries[i].Val(), Cut: newCut(cuts[i].Val())}
		if len(pages[i].Entries) > 0 {
			pages[i].Cut.First = pages[i].Entries[0].ID
		}
	}
	return pages, nil
}

// StreamEnds returns the ids of the last entries of some streams, in one round trip: of those that
// are there or, in an empty stream, of those that were removed; "0-0" if there were none.
func (l *Ledger) StreamEnds(ctx context.Context, apps []string) ([]string, error) {
	last, cuts := make([]*redis.XMessageSliceCmd, len(apps)), make([]*redis.SliceCmd, len(apps))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, app := range apps {
			last[i] = p.XRevRangeN(ctx, StreamKey(app), "+", "-", 1)
			cuts[i] = p.HMGet(ctx, cutKey(app), "id", "by")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the end of the results: %w", err)
	}
	ends := make([]string, len(apps))
	for i := range apps {
		if entries := last[i].Val(); len(entries) > 0 {
			ends[i] = entries[0].ID
			continue
		}
		ends[i] = cmp.Or(newCut(cuts[i].Val()).ID, "0-0")
	}
	return ends, nil
}

// newCut decodes the fields id and by of a hash of cuts.
func newCut(fields []any) Cut {
	id, _ := fields[0].(string)
	by, _ := fields[1].(string)
	return Cut{ID: id, ByLength: by == "length"}
}
