-- Gives back permits that were not used: their counts, and their instants if no later one is
-- reserved. Counts that have expired already are left alone, and so are rows that were lost
-- since the grant.
--
-- KEYS  three per row: its state (a hash), the log of its minute (a list of "bucket:count"),
--       the lanes that share it (a sorted set of "id demand")
-- ARGV  1 now, µs (0: Redis' own clock)   2 the id of a lane that became idle, else empty
--       3 bucket, µs   4 life of a bucket after its end, µs   5 skew of the clocks at midnight, µs
--       6 number of rows
--       7 number of permits   8 the latest instant of a run of them, µs   9 length of the run
--       (0: no run)   10 distance of its instants, µs   11 pairs of buckets   12 pairs of days
--       then seven per row, as granted: its epoch, its sequence with the newest and with the
--       oldest of the permits, its spacing in µs, and the minute's, the day's and the
--       lifetime's limit (0: no such window)
--       then the pairs: a bucket and the number of permits with an instant in it; a time of a
--       grant, µs, and the number of permits granted then or at a time that counts on the same days
-- Reply 1
local DAY, UTC8 = 86400000000, 28800000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, rows = num(ARGV[1]), num(ARGV[6])
local bucket, bucket_ttl, skew = num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local permits, top, run, step = num(ARGV[7]), num(ARGV[8]), num(ARGV[9]), num(ARGV[10])
local buckets = 13 + 7 * rows -- the first pair of buckets
local days = buckets + 2 * num(ARGV[11])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end

local function decrement(key, field, n)
  local by = math.min(n, num(redis.call('HGET', key, field)))
  if by > 0 then redis.call('HINCRBY', key, field, int(-by)) end
end

-- Removes an idle lane from the lanes that share the row.
local function remove_lane(active, lane_id)
  for _, member in ipairs(redis.call('ZRANGE', active, 0, -1)) do
    if string.match(member, '^%S+') == lane_id then redis.call('ZREM', active, member) end
  end
end

-- Frees the latest instants of a row: the whole run if its instants are a spacing apart, else
-- the last one.
local function free_instants(state, spacing)
  if run == 0 or spacing == 0 or num(redis.call('HGET', state, 'next')) ~= top + spacing then return end
  local freed = top
  if step == spacing then freed = top - (run - 1) * step end
  redis.call('HSET', state, 'next', int(freed))
end

-- Takes n calls out of the minute's log. They were counted in the first bucket at or after
-- their own, or in a later one; taking them out of the earlier one never frees room too early.
local function minute(state, log, own, n)
  if (own + 1) * bucket + bucket_ttl <= now then return end
  local low, high = 0, redis.call('LLEN', log)
  while low < high do
    local mid = math.floor((low + high) / 2)
    if num(string.match(redis.call('LINDEX', log, mid), '^(%d+)')) < own then low = mid + 1 else high = mid end
  end
  local entry = redis.call('LINDEX', log, low)
  if not entry then return end
  local b, count = string.match(entry, '^(%d+):(%d+)$')
  n = math.min(n, num(count))
  if n == 0 then return end
  redis.call('LSET', log, low, b .. ':' .. int(num(count) - n))
  decrement(state, 'logged', n)
end

-- Takes n calls out of the counts of the days on which a grant at `granted` counted.
local function day(state, granted, n)
  local date = math.floor((granted + UTC8) / DAY)
  local since_midnight = granted + UTC8 - date * DAY
  local stored = num(redis.call('HGET', state, 'date'))
  if stored == date then
    decrement(state, 'used', n)
    if since_midnight >= DAY - skew then decrement(state, 'tomorrow', n) end
    if since_midnight < skew then decrement(state, 'yesterday', n) end
  elseif stored == date + 1 then
    decrement(state, 'yesterday', n)
    if since_midnight >= DAY - skew then decrement(state, 'used', n) end
  end
end

for i = 1, rows do
  local state, log, a = KEYS[3 * i - 2], KEYS[3 * i - 1], 6 + 7 * i
  if ARGV[2] ~= '' then remove_lane(KEYS[3 * i], ARGV[2]) end
  if num(redis.call('HGET', state, 'epoch')) == num(ARGV[a]) then
        -- Instants are freed only if the row has granted nothing since: the clock may have stepped
        -- back, and another permit may have the same instant.
    if num(redis.call('HGET', state, 'seq')) == num(ARGV[a + 1]) then free_instants(state, num(ARGV[a + 3])) end
    if num(ARGV[a + 4]) > 0 and num(redis.call('HGET', state, 'folded')) < num(ARGV[a + 2]) then
      for p = buckets, days - 2, 2 do minute(state, log, num(ARGV[p]), num(ARGV[p + 1])) end
    end
    if num(ARGV[a + 5]) > 0 and num(redis.call('HGET', state, 'told')) < num(ARGV[a + 2]) then
      for p = days, days + 2 * num(ARGV[12]) - 2, 2 do day(state, num(ARGV[p]), num(ARGV[p + 1])) end
    end
    if num(ARGV[a + 6]) > 0 then decrement(state, 'total', permits) end
  end
end
return 1
