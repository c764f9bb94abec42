-- Sets a hold, unless one is in force that it must not replace: one that ends no earlier,
-- or an operator's where this one is a replica's.
--
-- KEYS  1 the hold (a hash)   2 the app's index of holds (a set of scopes)
-- ARGV  1 now, µs (0: Redis' own clock)   2 scope   3 reason   4 code   5 by
--       6 since, ms (0: now)   7 memory, ms   8 how the by of a replica begins
--       9 the kind of its end   10 with "at": until, ms (0: until lifted); with "after":
--       ms from now; with "minute" and "day": ms past the end of now's minute or day
-- Reply {2, now, field, value…}   set where none was in force
--       {1, now, field, value…}   set in the place of one that was in force
--       {0, now, field, value…}   left as it was; without fields where nothing is in force
local MINUTE, DAY, UTC8 = 60000, 86400000, 28800000

local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local micros = now
now = math.floor(now / 1000)

local function int(v) return string.format('%.0f', v) end

-- A day ends at midnight in China. In its first minute it does so after that minute: what
-- is refused then may still be about the day before.
local function till_of(kind, ms)
  local into = (now + UTC8) % DAY
  if kind == 'at' then return ms end
  if kind == 'after' then return math.ceil(micros / 1000) + ms end
  if kind == 'day' and into >= MINUTE then return now - into + DAY + ms end
  return now - into % MINUTE + MINUTE + ms
end

local function lasting(till)
  if till == 0 then return math.huge end
  return till
end

local function replicas(by) return string.sub(by, 1, #ARGV[8]) == ARGV[8] end

local till = till_of(ARGV[9], tonumber(ARGV[10]))
local old = redis.call('HMGET', KEYS[1], 'until', 'since', 'tries', 'reason', 'by')
local before = old[1] and lasting(tonumber(old[1])) or 0

local function reply(set)
  local r = {set, micros}
  if set > 0 or before > now then
    for _, v in ipairs(redis.call('HGETALL', KEYS[1])) do r[#r + 1] = v end
  end
  return r
end

if lasting(till) <= now then return reply(0) end
if before > now and (before >= lasting(till) or replicas(ARGV[5]) and not replicas(old[5] or '')) then return reply(0) end

local since, tries = ARGV[6], 1
if since == '0' then since = int(now) end
if old[4] == ARGV[3] and before > now - tonumber(ARGV[7]) then
  -- The same trouble goes on. Only a hold that is set again after its end is a new try:
  -- many callers meet one trouble at once.
  since, tries = old[2], tonumber(old[3])
  if before <= now then tries = tries + 1 end
end
redis.call('HSET', KEYS[1], 'reason', ARGV[3], 'code', ARGV[4], 'by', ARGV[5],
  'since', since, 'until', int(till), 'tries', int(tries))
redis.call('SADD', KEYS[2], ARGV[2])
return reply(before > now and 1 or 2)
