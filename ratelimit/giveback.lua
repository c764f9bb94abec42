-- Gives back permits that were not used: their counts, and their instants when no later
-- one was reserved. Nothing is given back that has already passed by itself, and nothing
-- to a row that was lost since.
--
-- KEYS  three a row: its state (a hash), the log of its minute (a list "bucket:count"),
--       the lanes that draw on it (a sorted set of "id demand")
-- ARGV  1 now, µs (0: Redis' own clock)   2 the lane's id, when it asks for no more; else empty
--       3 bucket, µs   4 keep, µs   5 edge, µs   6 rows
--       7 how many permits   8 the latest instant, µs, of a run of them   9 its length (0: no
--       run)   10 the distance of its instants, µs   11 pairs of buckets   12 pairs of days
--       then seven a row, as when they were taken: its epoch, its sequence with the newest
--       and with the oldest of them, its spacing in µs, and the minute's, the day's and the
--       lifetime's limit (0: no such window)
--       then the pairs: a bucket and how many permits' instants lie in it; a time of a grant,
--       µs, and how many permits were granted then, or at a time that counts on the same days
-- Reply 1
local DAY, UTC8 = 86400000000, 28800000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, rows = num(ARGV[1]), num(ARGV[6])
local bucket, keep, edge = num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local permits, top, run, step = num(ARGV[7]), num(ARGV[8]), num(ARGV[9]), num(ARGV[10])
local buckets = 13 + 7 * rows -- the first pair of buckets
local days = buckets + 2 * num(ARGV[11])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end

local function lessen(key, field, n)
  local least = math.min(n, num(redis.call('HGET', key, field)))
  if least > 0 then redis.call('HINCRBY', key, field, int(-least)) end
end

-- A lane that rests is no longer counted among those that draw on the row.
local function remove_lane(active, me)
  for _, member in ipairs(redis.call('ZRANGE', active, 0, -1)) do
    if string.match(member, '^%S+') == me then redis.call('ZREM', active, member) end
  end
end

-- Frees the latest instants of a row: the whole run where it is as dense as the row allows,
-- else the last one.
local function free_instants(state, spacing)
  if run == 0 or spacing == 0 or num(redis.call('HGET', state, 'next')) ~= top + spacing then return end
  local freed = top
  if step == spacing then freed = top - (run - 1) * step end
  redis.call('HSET', state, 'next', int(freed))
end

-- The calls were counted in the first bucket that does not lie before their own, or in a
-- later one; taking them out of the earlier of the two frees no room too early.
local function minute(state, log, own, n)
  if (own + 1) * bucket + keep <= now then return end
  local lo, hi = 0, redis.call('LLEN', log)
  while lo < hi do
    local mid = math.floor((lo + hi) / 2)
    if num(string.match(redis.call('LINDEX', log, mid), '^(%d+)')) < own then lo = mid + 1 else hi = mid end
  end
  local entry = redis.call('LINDEX', log, lo)
  if not entry then return end
  local b, count = string.match(entry, '^(%d+):(%d+)$')
  n = math.min(n, num(count))
  if n == 0 then return end
  redis.call('LSET', log, lo, b .. ':' .. int(num(count) - n))
  lessen(state, 'logged', n)
end

local function day(state, granted, n)
  local date = math.floor((granted + UTC8) / DAY)
  local into = granted + UTC8 - date * DAY
  local stored = num(redis.call('HGET', state, 'date'))
  if stored == date then
    lessen(state, 'used', n)
    if into >= DAY - edge then lessen(state, 'tomorrow', n) end
    if into < edge then lessen(state, 'yesterday', n) end
  elseif stored == date + 1 then
    lessen(state, 'yesterday', n)
    if into >= DAY - edge then lessen(state, 'used', n) end
  end
end

for i = 1, rows do
  local state, log, a = KEYS[3 * i - 2], KEYS[3 * i - 1], 6 + 7 * i
  if ARGV[2] ~= '' then remove_lane(KEYS[3 * i], ARGV[2]) end
  if num(redis.call('HGET', state, 'epoch')) == num(ARGV[a]) then
    -- Somebody may have taken since: then not even the same instant is the same, as the
    -- clock may have stepped back to it.
    if num(redis.call('HGET', state, 'seq')) == num(ARGV[a + 1]) then free_instants(state, num(ARGV[a + 3])) end
    if num(ARGV[a + 4]) > 0 and num(redis.call('HGET', state, 'folded')) < num(ARGV[a + 2]) then
      for p = buckets, days - 2, 2 do minute(state, log, num(ARGV[p]), num(ARGV[p + 1])) end
    end
    if num(ARGV[a + 5]) > 0 and num(redis.call('HGET', state, 'told')) < num(ARGV[a + 2]) then
      for p = days, days + 2 * num(ARGV[12]) - 2, 2 do day(state, num(ARGV[p]), num(ARGV[p + 1])) end
    end
    if num(ARGV[a + 6]) > 0 then lessen(state, 'total', permits) end
  end
end
return 1
