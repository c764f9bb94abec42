-- Shows in asynq's pause key of one queue that it is held, or that it is not. What anybody
-- else has written there stays.
--
-- KEYS  1 asynq:{<queue>}:paused
-- ARGV  1 how our values begin   2 the value ("": not held)
--       3 its end, ms since 1970 (0: none is known)   4 how long to show it then, ms
-- Reply 1 written or deleted, 0 left as it was
local was = redis.call('GET', KEYS[1])
if was and string.sub(was, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then return redis.call('DEL', KEYS[1]) end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PXAT', ARGV[3])
end
return 1
