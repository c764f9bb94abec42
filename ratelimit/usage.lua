-- Reads the state of rows; the caller computes the usage of their windows.
--
-- KEYS  two per row: its state (a hash), the log of its minute (a list of "bucket:count")
-- ARGV  1 now, µs (0: Redis' own clock)   2… the fields of a state to read
-- Reply {now, {value…}, {"bucket:count"…}, …}: two lists per row; '0' for a missing field
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local reply = {now}
for i = 1, #KEYS, 2 do
  local v = redis.call('HMGET', KEYS[i], unpack(ARGV, 2))
  for j = 1, #ARGV - 1 do v[j] = v[j] or '0' end
  reply[#reply + 1] = v
  reply[#reply + 1] = redis.call('LRANGE', KEYS[i + 1], 0, -1)
end
return reply
