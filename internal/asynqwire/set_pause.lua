-- Writes or deletes the pause key of a queue, unless the key has a value that is not ours, such
-- as an operator's pause.
--
-- KEYS  1 asynq:{<queue>}:paused
-- ARGV  1 the prefix of our values   2 the value; "" deletes the key
--       3 when the key expires, ms since 1970; 0: after ARGV[4]   4 ms
-- Reply 1 written or deleted, 0 unchanged
local was = redis.call('GET', KEYS[1])
if was and string.sub(was, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
end
return 1
