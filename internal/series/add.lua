-- Adds the counts of one app.
--
-- A recorder numbers its calls of an app, and repeats a call that got no answer with the same number:
-- it then counts once.
--
-- KEYS[1] the number of the recorder's last call, and then for each minute the hash of its minutes
-- and that of its hours
-- ARGV[1] number of this call, ARGV[2] ms for which it is known
-- ARGV[3], ARGV[4] ms for which hashes of minutes and of hours are kept, ARGV[5] errcode of the rest
-- ARGV[6] how many kinds are kept in a step
-- then for each minute: its number in the hash of minutes, its hour's in the hash of hours, number of
-- counts; and for each count "|<type>|<outcome>|", errcode, count
--
-- Returns 1, or 0 when the call was repeated.
if redis.call("GET", KEYS[1]) == ARGV[1] then return 0 end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
local most = tonumber(ARGV[6])

local function add(key, keep, step, kind, errcode, count)
	local field = step .. kind .. errcode
	if redis.call("HINCRBY", key, field, count) ~= tonumber(count) then return end -- it was there
	if errcode ~= ARGV[5] and redis.call("HLEN", key) > most * (step + 1) then
		redis.call("HDEL", key, field)
		redis.call("HINCRBY", key, step .. kind .. ARGV[5], count)
	end
	if redis.call("PTTL", key) < 0 then redis.call("PEXPIRE", key, keep) end
end

local at = 7
for k = 2, #KEYS, 2 do
	local minute, hour, counts = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
	at = at + 3
	for _ = 1, counts do
		local kind, errcode, count = ARGV[at], ARGV[at + 1], ARGV[at + 2]
		add(KEYS[k], ARGV[3], minute, kind, errcode, count)
		add(KEYS[k + 1], ARGV[4], hour, kind, errcode, count)
		at = at + 3
	end
end
return 1
