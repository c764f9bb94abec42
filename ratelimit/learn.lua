-- Keeps what WeChat says of a row's limits. What it counted today is believed when it is
-- more than our own count: other systems may use the app too. WeChat's count then stands
-- in place of ours, and what was leased until then is no part of it: it is not given back
-- (`told` is the sequence of the last such lease).
--
-- KEYS  1 the row's state (a hash)
-- ARGV  1 now, µs (0: Redis' own clock)   2 edge, µs   3 used today
--       4… pairs of field and value, all of them numbers
-- Reply {spacing, minute, day} that were learned before, '0' for none
local DAY, UTC8 = 86400000000, 28800000000
local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, edge, used = num(ARGV[1]), num(ARGV[2]), num(ARGV[3])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end
local before = redis.call('HMGET', KEYS[1], 'learned_spacing', 'learned_minute', 'learned_day')
for i = 1, 3 do before[i] = before[i] or '0' end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))

-- Close to midnight nobody knows which day was meant.
local today = math.floor((now + UTC8) / DAY)
local into = now + UTC8 - today * DAY
if into < edge or into >= DAY - edge then return before end
local v = redis.call('HMGET', KEYS[1], 'date', 'used')
local date, ours = num(v[1]), num(v[2])
if date > today then return before end
if date < today then
  local yesterday = 0
  if date == today - 1 then yesterday = ours end
  redis.call('HSET', KEYS[1], 'date', int(today), 'used', int(used), 'tomorrow', '0', 'yesterday', int(yesterday))
elseif used > ours then
  redis.call('HSET', KEYS[1], 'used', int(used), 'told', int(num(redis.call('HGET', KEYS[1], 'seq'))))
end
return before
