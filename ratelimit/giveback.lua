-- Gives back permits that were not used: their counts, and their instants when no later
-- one was reserved. Nothing is given back that has already passed by itself, and nothing
-- to a row that was lost since.
--
-- KEYS  three a row: its state (a hash), the log of its minute (a list "bucket:count"),
--       the replicas that draw on it (a sorted set)
-- ARGV  1 now, µs (0: Redis' own clock)   2 the replica's id, when it asks for no more; else empty
--       3 bucket, µs   4 keep, µs   5 edge, µs   6 rows
--       then seven a row, as when they were taken: its epoch, its sequence with the newest
--       and with the oldest of them, its spacing in µs, and the minute's, the day's and the
--       lifetime's limit (0: no such window)
--       then two a permit, the newest first: its instant and when it was granted, µs
-- Reply 1
local DAY, UTC8 = 86400000000, 28800000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, rows = num(ARGV[1]), num(ARGV[6])
local bucket, keep, edge = num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end

local function lessen(key, field)
  if num(redis.call('HGET', key, field)) > 0 then redis.call('HINCRBY', key, field, -1) end
end

-- The call was counted in the first bucket that does not lie before its own, or in a
-- later one; taking it out of the earlier of the two frees no room too early.
local function minute(state, log, at)
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

local function day(state, granted)
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

for i = 1, rows do
  local state, log, a = KEYS[3 * i - 2], KEYS[3 * i - 1], 7 * i
  if ARGV[2] ~= '' then redis.call('ZREM', KEYS[3 * i], ARGV[2]) end
  if num(redis.call('HGET', state, 'epoch')) == num(ARGV[a]) then
    -- Somebody may have taken since: then not even the same instant is the same, as the
    -- clock may have stepped back to it.
    local newest = num(redis.call('HGET', state, 'seq')) == num(ARGV[a + 1])
    local folded = num(redis.call('HGET', state, 'folded')) >= num(ARGV[a + 2])
    local told = num(redis.call('HGET', state, 'told')) >= num(ARGV[a + 2])
    local spacing = num(ARGV[a + 3])
    for p = 7 + 7 * rows, #ARGV, 2 do
      local at, granted = num(ARGV[p]), num(ARGV[p + 1])
      if newest and spacing > 0 and num(redis.call('HGET', state, 'next')) == at + spacing then
        redis.call('HSET', state, 'next', int(at))
      end
      if num(ARGV[a + 4]) > 0 and not folded then minute(state, log, at) end
      if num(ARGV[a + 5]) > 0 and not told then day(state, granted) end
      if num(ARGV[a + 6]) > 0 then lessen(state, 'total') end
    end
  end
end
return 1
