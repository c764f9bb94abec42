package ledger

import (
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// readerKeeps is how long a reader holds the trimming of its stream back after the last call
	// of TendReaders with its name.
	readerKeeps = 10 * time.Minute
	// lowLapse is how long the readers of an app together hold the trimming back after the last
	// sign of any of them: the results of a weekend without a running process stay.
	lowLapse = 72 * time.Hour
	// readerForget is how long the position of a reader is kept after it was last tended.
	readerForget = 7 * 24 * time.Hour
	// deadMax is the maximum number of a reader's dead letters, approximately: the newest stay.
	deadMax = 10_000
	// deadKept is how long dead letters are kept after the last one was added.
	deadKept = 30 * 24 * time.Hour
)

// readerLua is the beginning of the scripts of a Reader. All times are of Redis' clock, in ms since
// 1970.
//
// The hash readers has a field per reader, "<cursor> <ordinal> <until>": the id of the last entry
// that the reader is done with; the number of entries that were ever added up to there, so that
// the lag is a difference; and the time until which the reader holds the trimming back.
var readerLua = `
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function less(a, b)
	local am, as = string.match(a, "^(%d+)-(%d+)$")
	local bm, bs = string.match(b, "^(%d+)-(%d+)$")
	if am ~= bm then return tonumber(am) < tonumber(bm) end
	return tonumber(as) < tonumber(bs)
end
local function parse(value) return string.match(value or "", "^(%S+) (%S+) (%S+)$") end
local function put(readers, name, cursor, ordinal, ends)
	redis.call("HSET", readers, name, cursor .. " " .. string.format("%d", ordinal) .. " " .. string.format("%d", ends))
end
-- added returns how many entries were ever added to the stream.
local function added(stream, cut)
	return redis.call("XLEN", stream) + (redis.call("HGET", cut, "removed") or 0)
end
local function last(stream)
	local entry = redis.call("XREVRANGE", stream, "+", "-", "COUNT", 1)[1]
	return entry and entry[1]
end
-- hold_back sets what trimLua must keep: the entries after the lowest cursor.
local function hold_back(readers, cut)
	local low
	local all = redis.call("HGETALL", readers)
	for i = 2, #all, 2 do
		local cursor, _, ends = parse(all[i])
		if cursor and tonumber(ends) > now and (not low or less(cursor, low)) then low = cursor end
	end
	if low then
		redis.call("HSET", cut, "low", low, "low_until", string.format("%d", now + ` + millisText(lowLapse) + `))
	else
		redis.call("HDEL", cut, "low", "low_until")
	end
end
local function leased(reader, owner)
	return string.match(redis.call("HGET", reader, "lease") or "", "^(%S+)") == owner
end
local function lease(reader, owner, ms)
	redis.call("HSET", reader, "lease", owner .. " " .. string.format("%d", now + ms))
end
`

// millisText returns a constant of a script.
func millisText(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// tendScript creates readers, and notes that they are in use.
//
// KEYS[1] readers, KEYS[2] cut, KEYS[3] stream
// ARGV[1] low_max, see trimLua; then, per reader, its name and its start: the position of a new
// reader ("end", or a time in ms), or "off" for a reader that does not hold the trimming back
var tendScript = redis.NewScript(readerLua + `
local readers, cut, stream = KEYS[1], KEYS[2], KEYS[3]
local function position(start)
	if start == "end" then return last(stream) or redis.call("HGET", cut, "id") or "0-0", added(stream, cut) end
	local earlier = redis.call("XREVRANGE", stream, string.format("%d", start - 1), "-", "COUNT", 1)[1]
	if not earlier then return redis.call("HGET", cut, "id") or "0-0", redis.call("HGET", cut, "removed") or 0 end
	local later = redis.call("XRANGE", stream, start, "+", "COUNT", 1000)
	return earlier[1], added(stream, cut) - #later
end
for i = 2, #ARGV, 2 do
	local name, start = ARGV[i], ARGV[i + 1]
	local cursor, ordinal = parse(redis.call("HGET", readers, name))
	if not cursor and start ~= "off" then cursor, ordinal = position(start) end
	if cursor then put(readers, name, cursor, ordinal, start == "off" and now or now + ` + millisText(readerKeeps) + `) end
end
local all = redis.call("HGETALL", readers)
for i = 1, #all, 2 do
	local _, _, ends = parse(all[i + 1])
	if not ends or tonumber(ends) + ` + millisText(readerForget) + ` < now then redis.call("HDEL", readers, all[i]) end
end
hold_back(readers, cut)
redis.call("HSET", cut, "low_max", ARGV[1])
return 1
`)

// acquireScript gives a reader to a process.
//
// KEYS[1] readers, KEYS[2] reader. ARGV[1] name, ARGV[2] owner, ARGV[3] lease in ms
//
// Returns {ms, cursor, batch, note}: ms is 0, or how long to wait for the lease of another process
// or the next try; or {-1} when there is no such reader.
var acquireScript = redis.NewScript(readerLua + `
local cursor = parse(redis.call("HGET", KEYS[1], ARGV[1]))
if not cursor then return {-1} end
local r = redis.call("HMGET", KEYS[2], "lease", "next", "batch", "note")
local owner, ends = string.match(r[1] or "", "^(%S+) (%d+)$")
if owner and owner ~= ARGV[2] and tonumber(ends) > now then return {tonumber(ends) - now} end
if r[2] and tonumber(r[2]) > now then return {tonumber(r[2]) - now} end
lease(KEYS[2], ARGV[2], ARGV[3])
return {0, cursor, r[3] or "", r[4] or ""}
`)

// storeScript stores the batch that a reader is about to process, and renews its lease.
//
// KEYS[1] reader. ARGV[1] owner, ARGV[2] lease in ms, ARGV[3] batch, or "" to keep the one stored.
// Returns 0 when another process has the reader
var storeScript = redis.NewScript(readerLua + `
if not leased(KEYS[1], ARGV[1]) then return 0 end
lease(KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= "" then redis.call("HSET", KEYS[1], "batch", ARGV[3]) end
return 1
`)

// advanceScript moves a reader forward, and deletes its batch.
//
// KEYS[1] readers, KEYS[2] reader, KEYS[3] cut, KEYS[4] stream, KEYS[5] dead letters
// ARGV[1] name, ARGV[2] owner, ARGV[3] lease in ms, ARGV[4] cursor, ARGV[5] number of entries up to
// there, ARGV[6] 1 when the cursor is before the oldest entry, ARGV[7] note or "", ARGV[8…] fields
// and values of a dead letter. Returns 0 when another process has the reader
var advanceScript = redis.NewScript(readerLua + `
local cursor, ordinal, ends = parse(redis.call("HGET", KEYS[1], ARGV[1]))
if not cursor or not leased(KEYS[2], ARGV[2]) then return 0 end
ordinal = ordinal + ARGV[5]
if ARGV[6] == "1" then
	ordinal = redis.call("HGET", KEYS[3], "removed") or 0
elseif last(KEYS[4]) == ARGV[4] then
	ordinal = added(KEYS[4], KEYS[3])
end
put(KEYS[1], ARGV[1], ARGV[4], ordinal, ends)
lease(KEYS[2], ARGV[2], ARGV[3])
redis.call("HDEL", KEYS[2], "batch", "next", ARGV[7] == "" and "note" or "next")
if ARGV[7] ~= "" then redis.call("HSET", KEYS[2], "note", ARGV[7]) end
if ARGV[8] then
	redis.call("XADD", KEYS[5], "MAXLEN", "~", ` + strconv.Itoa(deadMax) + `, "*", unpack(ARGV, 8))
	redis.call("PEXPIRE", KEYS[5], ` + millisText(deadKept) + `)
end
hold_back(KEYS[1], KEYS[3])
return 1
`)

// failScript gives a reader back until a next try.
//
// KEYS[1] reader. ARGV[1] owner, ARGV[2] ms until the next try, ARGV[3] note. Returns 0 when
// another process has the reader
var failScript = redis.NewScript(readerLua + `
if not leased(KEYS[1], ARGV[1]) then return 0 end
redis.call("HSET", KEYS[1], "note", ARGV[3], "next", string.format("%d", now + ARGV[2]))
redis.call("HDEL", KEYS[1], "lease")
return 1
`)

// releaseScript gives a reader back.
//
// KEYS[1] reader. ARGV[1] owner
var releaseScript = redis.NewScript(readerLua + `
if leased(KEYS[1], ARGV[1]) then redis.call("HDEL", KEYS[1], "lease") end
return 1
`)

// moveScript sets the position of a reader, whoever has it: its process notices when it next stores
// a batch or advances.
//
// KEYS[1] readers, KEYS[2] reader, KEYS[3] cut, KEYS[4] stream
// ARGV[1] name, ARGV[2] cursor, ARGV[3] number of entries after it. Returns 0 when there is no such
// reader
var moveScript = redis.NewScript(readerLua + `
local cursor, _, ends = parse(redis.call("HGET", KEYS[1], ARGV[1]))
if not cursor then return 0 end
put(KEYS[1], ARGV[1], ARGV[2], added(KEYS[4], KEYS[3]) - ARGV[3], ends)
redis.call("HDEL", KEYS[2], "batch", "next", "note", "lease")
hold_back(KEYS[1], KEYS[3])
return 1
`)

// countScript counts the entries after a position, at most 1,000.
//
// KEYS[1] stream. ARGV[1] cursor. Returns {number, id of the last one}
var countScript = redis.NewScript(`
local entries = redis.call("XRANGE", KEYS[1], "(" .. ARGV[1], "+", "COUNT", 1000)
return {#entries, #entries > 0 and entries[#entries][1] or ARGV[1]}
`)
