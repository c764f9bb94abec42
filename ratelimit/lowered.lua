-- Marks rows whose limit per second was lowered: they grant nothing until the calls that were made
-- under the higher limit are older than the window.
--
-- KEYS  the state of each row (a hash)
-- ARGV  1 now, µs (0: Redis' own clock)
-- Reply 1
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
for _, state in ipairs(KEYS) do
  if redis.call('EXISTS', state) == 1 then redis.call('HSET', state, 'lowered', string.format('%.0f', now)) end
end
return 1
