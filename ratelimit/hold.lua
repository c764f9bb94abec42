-- Sets a hold, unless one that ends no earlier is there.
--
-- KEYS  1 the hold (a hash)   2 the app's index of holds (a set of scopes)
-- ARGV  1 now, µs (0: Redis' own clock)   2 scope   3 reason   4 code   5 by
--       6 since, ms (0: now)   7 until, ms (0: until lifted)   8 memory, ms
-- Reply 1 set, 0 left as it was
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
now = math.floor(now / 1000)

local function ends(v)
  v = tonumber(v)
  if v == 0 then return math.huge end
  return v
end

local till, memory = ends(ARGV[7]), tonumber(ARGV[8])
if till <= now then return 0 end

local since, tries = ARGV[6], 1
if since == '0' then since = string.format('%.0f', now) end
local old = redis.call('HMGET', KEYS[1], 'until', 'since', 'tries', 'reason')
if old[1] then
  local before = ends(old[1])
  if before > now and before >= till then return 0 end
  if before > now - memory then
    -- The same trouble goes on, unless the reason is another one: an operator's hold over
    -- a worker's is the operator's from now. Only what was set again after its end is a
    -- new try: many callers meet one trouble at once.
    if old[4] == ARGV[3] then since = old[2] end
    tries = tonumber(old[3])
    if before <= now then tries = tries + 1 end
  end
end
redis.call('HSET', KEYS[1], 'reason', ARGV[3], 'code', ARGV[4], 'by', ARGV[5],
  'since', since, 'until', ARGV[7], 'tries', string.format('%.0f', tries))
redis.call('SADD', KEYS[2], ARGV[2])
return 1
