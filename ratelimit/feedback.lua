-- Lowers the pace of rows after an unexpected refusal: to seven tenths of what it is, and no
-- lower than a tenth of the limit. Refusals within the same window count once.
--
-- KEYS  the state of each row (a hash)
-- ARGV  1 now, µs (0: Redis' own clock)   2 window, µs
-- Reply the lowest factor now in force, in thousandths
local now, lowest = tonumber(ARGV[1]), 1000
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
for _, state in ipairs(KEYS) do
  local v = redis.call('HMGET', state, 'factor', 'slowed')
  local factor, slowed = tonumber(v[1] or '1000'), tonumber(v[2] or '0')
  local repeated = slowed > 0 and slowed <= now and now - slowed < tonumber(ARGV[2])
  factor = math.min(1000, factor + 50 * math.floor(math.max(0, now - slowed) / 10000000))
  if not repeated then
    factor = math.max(100, math.floor(factor * 7 / 10))
    redis.call('HSET', state, 'factor', factor, 'slowed', string.format('%.0f', now))
  end
  lowest = math.min(lowest, factor)
end
return lowest
