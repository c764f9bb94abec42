-- Stores the limits that WeChat reports for a row. If WeChat's count of today is higher than
-- ours, since other systems use the app too, it replaces ours. Permits leased until then are
-- not part of that count, and are not given back (`told` is the sequence of the last such
-- lease).
--
-- KEYS  1 the row's state (a hash)
-- ARGV  1 now, µs (0: Redis' own clock)   2 skew of the clocks at midnight, µs   3 used today
--       4… pairs of field and value; the values are numbers
-- Reply {spacing, minute, day} as learned before, '0' for none
local DAY, UTC8 = 86400000000, 28800000000
local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, skew, used = num(ARGV[1]), num(ARGV[2]), num(ARGV[3])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end
local before = redis.call('HMGET', KEYS[1], 'learned_spacing', 'learned_minute', 'learned_day')
for i = 1, 3 do before[i] = before[i] or '0' end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))

-- Close to midnight it is not known which day the count belongs to.
local today = math.floor((now + UTC8) / DAY)
local since_midnight = now + UTC8 - today * DAY
if since_midnight < skew or since_midnight >= DAY - skew then return before end
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
