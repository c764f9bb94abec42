-- Gives back one permit that was not used: its counts, and its instant when no later one
-- was reserved. Nothing is given back that has already passed by itself.
--
-- KEYS  two a row: its state (a hash), the log of its minute (a list "bucket:count")
-- ARGV  1 now, µs (0: Redis' own clock)   2 the permit's instant, µs   3 when it was granted, µs
--       4 bucket, µs   5 keep, µs   6 edge, µs
--       then four a row, as when it was taken: spacing in µs, and the minute's, the
--       day's and the lifetime's limit (0: no such window)
-- Reply 1
local DAY, UTC8 = 86400000000, 28800000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, at, granted = num(ARGV[1]), num(ARGV[2]), num(ARGV[3])
local bucket, keep, edge = num(ARGV[4]), num(ARGV[5]), num(ARGV[6])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end

local function lessen(key, field)
  if num(redis.call('HGET', key, field)) > 0 then redis.call('HINCRBY', key, field, -1) end
end

-- The call was counted in the first bucket that does not lie before its own, or in a
-- later one; taking it out of the earlier of the two frees no room too early.
local function minute(state, log)
  local own = math.floor(at / bucket)
  if (own + 1) * bucket + keep <= now then return end
  local lo, hi = 0, redis.call('LLEN', log)
  while lo < hi do
    local mid = math.floor((lo + hi) / 2)
    if num(string.match(redis.call('LINDEX', log, mid), '^(%d+)')) < own then lo = mid + 1 else hi = mid end
  end
  local entry = redis.call('LINDEX', log, lo)
  if not entry then return end
  local b, count = string.match(entry, '^(%d+):(%d+)$')
  if num(count) == 0 then return end
  redis.call('LSET', log, lo, b .. ':' .. int(num(count) - 1))
  lessen(state, 'logged')
end

local function day(state)
  local date = math.floor((granted + UTC8) / DAY)
  local into = granted + UTC8 - date * DAY
  local stored = num(redis.call('HGET', state, 'date'))
  if stored == date then
    lessen(state, 'used')
    if into >= DAY - edge then lessen(state, 'tomorrow') end
    if into < edge then lessen(state, 'yesterday') end
  elseif stored == date + 1 then
    lessen(state, 'yesterday')
    if into >= DAY - edge then lessen(state, 'used') end
  end
end

for i = 1, #KEYS / 2 do
  local state, log, a = KEYS[2 * i - 1], KEYS[2 * i], 3 + 4 * i
  local spacing = num(ARGV[a])
  if spacing > 0 and num(redis.call('HGET', state, 'next')) == at + spacing then
    redis.call('HSET', state, 'next', int(at))
  end
  if num(ARGV[a + 1]) > 0 then minute(state, log) end
  if num(ARGV[a + 2]) > 0 then day(state) end
  if num(ARGV[a + 3]) > 0 then lessen(state, 'total') end
end
return 1
