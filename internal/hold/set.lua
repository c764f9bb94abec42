-- Sets a hold, unless a hold is in force that it must not replace: one that ends no earlier, or
-- an operator's if the new one is a replica's.
--
-- KEYS  1 the hold (a hash)   2 the app's index of holds (a set of scopes)
-- ARGV  1 now, µs (0: Redis' own clock)   2 scope   3 reason   4 code   5 by
--       6 since, ms (0: now)   7 retention of ended holds, ms   8 prefix of a replica's by
--       9 kind of the end   10 with "at": until, ms (0: until lifted); with "after": ms from
--       now; with "minute" and "day": ms after the end of the current minute or day
-- Reply {2, now, field, value…}   set; none was in force before
--       {1, now, field, value…}   set; it replaced a hold in force
--       {0, now, field, value…}   unchanged; without fields if no hold is in force
local MINUTE, DAY, UTC8 = 60000, 86400000, 28800000

local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local micros = now
now = math.floor(now / 1000)

local function int(v) return string.format('%.0f', v) end

-- The end of a hold, ms. A day ends at midnight in China. In the first minute of a day, a hold
-- for the day ends with that minute, since the refusal may still concern the previous day.
local function end_of(kind, ms)
  local since_midnight = (now + UTC8) % DAY
  if kind == 'at' then return ms end
  if kind == 'after' then return math.ceil(micros / 1000) + ms end
  if kind == 'day' and since_midnight >= MINUTE then return now - since_midnight + DAY + ms end
  return now - since_midnight % MINUTE + MINUTE + ms
end

local function or_forever(ends)
  if ends == 0 then return math.huge end
  return ends
end

local function by_replica(by) return string.sub(by, 1, #ARGV[8]) == ARGV[8] end

local ends = end_of(ARGV[9], tonumber(ARGV[10]))
local old = redis.call('HMGET', KEYS[1], 'until', 'since', 'tries', 'reason', 'by')
local old_ends = old[1] and or_forever(tonumber(old[1])) or 0

local function reply(set)
  local r = {set, micros}
  if set > 0 or old_ends > now then
    for _, v in ipairs(redis.call('HGETALL', KEYS[1])) do r[#r + 1] = v end
  end
  return r
end

if or_forever(ends) <= now then return reply(0) end
if old_ends > now and (old_ends >= or_forever(ends) or by_replica(ARGV[5]) and not by_replica(old[5] or '')) then return reply(0) end

local since, tries = ARGV[6], 1
if since == '0' then since = int(now) end
if old[4] == ARGV[3] and old_ends > now - tonumber(ARGV[7]) then
    -- The same reason goes on. Only a hold that is set after the end of the last one is a new
    -- try, since many callers are refused at the same time.
  since, tries = old[2], tonumber(old[3])
  if old_ends <= now then tries = tries + 1 end
end
redis.call('HSET', KEYS[1], 'reason', ARGV[3], 'code', ARGV[4], 'by', ARGV[5],
  'since', since, 'until', int(ends), 'tries', int(tries))
redis.call('SADD', KEYS[2], ARGV[2])
return reply(old_ends > now and 1 or 2)
