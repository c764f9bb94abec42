-- Reads holds, and deletes the records of those that ended long ago.
--
-- KEYS  1 the app's index of holds (a set of scopes)   2… the holds (hashes)
-- ARGV  1 now, µs (0: Redis' own clock)   2 retention of ended holds, ms   3… the scopes of KEYS 2…
-- Reply {now, {field, value…}, …}: one list per hold; empty if there is no record
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000000 + tonumber(t[2])
end
local reply = {now}
for i = 2, #KEYS do
  local ends = tonumber(redis.call('HGET', KEYS[i], 'until') or '-1')
  if ends ~= 0 and ends <= now / 1000 - tonumber(ARGV[2]) then
    redis.call('DEL', KEYS[i])
    redis.call('SREM', KEYS[1], ARGV[i + 1])
  end
  reply[i] = redis.call('HGETALL', KEYS[i])
end
return reply
