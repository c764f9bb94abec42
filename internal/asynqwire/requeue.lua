-- Puts an active task back into its queue, as asynq's own requeue does. It does not write an
-- error or a time into the message, since nothing has failed.
--
-- KEYS  1 asynq:{<queue>}:t:<task id> (a hash)   2 …:active (a list)   3 …:lease (a sorted
--       set)   4 …:pending (a list; its tail is the next to go)
-- ARGV  1 task id   2 a number that identifies the run   3 RPUSH: to the front, LPUSH: to the back
-- Reply OK, also for a repetition, whose first reply was lost; an error when the task is no
--       longer active
if redis.call('HGET', KEYS[1], 'requeued') == ARGV[2] then return redis.status_reply('OK') end
if redis.call('LREM', KEYS[2], 0, ARGV[1]) == 0 then return redis.error_reply('NOT FOUND') end
redis.call('ZREM', KEYS[3], ARGV[1])
if redis.call('HEXISTS', KEYS[1], 'msg') == 1 then
  local t = redis.call('TIME')
  redis.call(ARGV[3], KEYS[4], ARGV[1])
  redis.call('HSET', KEYS[1], 'state', 'pending', 'requeued', ARGV[2],
    'pending_since', string.format('%.0f', tonumber(t[1]) * 1e9 + tonumber(t[2]) * 1e3))
end
return redis.status_reply('OK')
