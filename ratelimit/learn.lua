-- Stores the limits and the count of today that WeChat reports for a row. Permits leased until
-- then are not part of that count, and are not given back (`told` is the sequence of the last
-- such lease).
--
-- A higher count than ours replaces ours, since other systems use the app too. A lower one
-- replaces ours only if WeChat was asked long enough after our last grant (`counted`): its calls
-- may still be under way, or not be in WeChat's count yet. WeChat's count may be a hundredth too
-- low, which is added.
--
-- KEYS  1 the row's state (a hash)
-- ARGV  1 now, µs (0: Redis' own clock)   2 skew of the clocks at midnight, µs   3 used today
--       4 when WeChat was asked, by the same clock, µs (0: a lower count is not stored)
--       5 how long after the last grant WeChat counts all its calls, µs
--       6 1: a higher count is not stored, nor one of a row that has counted nothing today
--       7… pairs of field and value; the values are numbers
-- Reply {spacing, minute, day} as learned before, '0' for none
local DAY, UTC8 = 86400000000, 28800000000
local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, skew, used = num(ARGV[1]), num(ARGV[2]), num(ARGV[3])
local asked, settle, lower_only = num(ARGV[4]), num(ARGV[5]), ARGV[6] == '1'
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end
local before = redis.call('HMGET', KEYS[1], 'learned_spacing', 'learned_minute', 'learned_day')
for i = 1, 3 do before[i] = before[i] or '0' end
if #ARGV > 6 then redis.call('HSET', KEYS[1], unpack(ARGV, 7)) end

-- Close to midnight it is not known which day the count belongs to.
local today = math.floor((now + UTC8) / DAY)
local since_midnight = now + UTC8 - today * DAY
if since_midnight < skew or since_midnight >= DAY - skew then return before end
local v = redis.call('HMGET', KEYS[1], 'date', 'used', 'seq', 'counted', 'counted_seq')
local date, ours, seq, counted, counted_seq = num(v[1]), num(v[2]), num(v[3]), num(v[4]), num(v[5])
if date > today then return before end

local function store(n) redis.call('HSET', KEYS[1], 'used', int(n), 'told', int(seq), 'told_at', int(now)) end

if date < today then
  if lower_only then return before end
  local yesterday = 0
  if date == today - 1 then yesterday = ours end
  redis.call('HSET', KEYS[1], 'date', int(today), 'used', int(used), 'tomorrow', '0', 'yesterday', int(yesterday))
elseif used > ours then
  if not lower_only then store(used) end
elseif asked > 0 and asked <= now then
  if counted_seq ~= seq then
    -- An earlier version granted the last permits, at an unknown time.
    redis.call('HSET', KEYS[1], 'counted', int(now), 'counted_seq', int(seq))
  elseif counted + settle <= asked and asked >= now - since_midnight + skew then
    local most = math.ceil(used * 1.01)
    if most < ours then store(most) end
  end
end
return before
