package ledger

import "github.com/redis/go-redis/v9"

// mark claims an id for a queue.
//
// KEYS[1] record, KEYS[2] batch, KEYS[3] ids of the batch (2 and 3 only with a batch)
// ARGV[1] queue, ARGV[2] state, ARGV[3] id
//
// Returns {"new" | "marked" | "done", queue}. "marked" means that another call
// claimed it first, into the queue that is returned.
var mark = redis.NewScript(`
local r = redis.call("HMGET", KEYS[1], "queue", "outcome")
if r[2] then return {"done", r[1] or ""} end
if r[1] then return {"marked", r[1]} end
redis.call("HSET", KEYS[1], "queue", ARGV[1], "state", ARGV[2], "generation", 0)
redis.call("PERSIST", KEYS[1])
if KEYS[2] then
	redis.call("HINCRBY", KEYS[2], "total", 1)
	redis.call("PERSIST", KEYS[2])
	redis.call("SADD", KEYS[3], ARGV[3])
	redis.call("PERSIST", KEYS[3])
end
return {"new", ARGV[1]}
`)

// open takes a task for a runner, or tells why the runner may not have it. Time is
// the server's, so that replicas' clocks do not matter.
//
// KEYS[1] record, KEYS[2] batch, KEYS[3] ids of the batch (2 and 3 only with a batch)
// ARGV[1] runner, ARGV[2] queue, ARGV[3] 1 when the request is unsafe to repeat or
// deduplicated for a while only (it is fenced), ARGV[4] ms for which a fenced request
// may be repeated, ARGV[5] ms after which a runner is held to be dead, ARGV[6] 1 when
// not_after has passed, ARGV[7] lost runs that end the task, ARGV[8] id
//
// Returns {what, ms, attempts, generation, since}. what is go, settled, busy (ms: look
// again then), unknown, lost, canceled or expired.
//
// Asked twice by one runner (its connection broke before the first answer came), it
// answers the same.
//
// A fence without a run is a request whose answer never came. It outweighs a
// cancellation and an expiry: the message may be on its way.
var open = redis.NewScript(`
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local r = redis.call("HMGET", KEYS[1], "outcome", "run", "fence", "canceled", "lost", "attempts", "generation")
local attempts, generation = tonumber(r[6] or 0), tonumber(r[7] or 0)
local function answer(what, ms) return {what, ms or 0, attempts, generation, now} end

if r[1] then return answer("settled") end
local first = r[3] and tonumber(string.match(r[3], '"first":(%d+)'))
if r[2] and string.match(r[2], "^(%S+)") == ARGV[1] then return answer("go") end
if r[2] then
	local dead = tonumber(string.match(r[2], " (%d+)$")) + tonumber(ARGV[5])
	if dead > now then return answer("busy", dead - now) end
	redis.call("HDEL", KEYS[1], "run")
	local lost = redis.call("HINCRBY", KEYS[1], "lost", 1)
	if not first and lost >= tonumber(ARGV[7]) then return answer("lost") end
	if first and lost >= tonumber(ARGV[7]) then return answer("unknown") end
end
local canceled = r[4] or (KEYS[2] and redis.call("HEXISTS", KEYS[2], "withdrawn") == 1)
if first and (canceled or ARGV[6] == "1" or now - first >= tonumber(ARGV[4])) then return answer("unknown") end
if canceled then return answer("canceled") end
if ARGV[6] == "1" then return answer("expired") end

attempts = redis.call("HINCRBY", KEYS[1], "attempts", 1)
redis.call("HSET", KEYS[1], "state", "sending", "run", ARGV[1] .. " " .. string.format("%d", now))
if ARGV[3] == "1" then
	redis.call("HSET", KEYS[1], "fence", string.format('{"runner":"%s","attempt":%d,"since":%d,"first":%d}', ARGV[1], attempts, now, first or now))
end
if redis.call("HSETNX", KEYS[1], "queue", ARGV[2]) == 1 then
	redis.call("HSET", KEYS[1], "generation", generation)
	if KEYS[2] then
		redis.call("HINCRBY", KEYS[2], "total", 1)
		redis.call("SADD", KEYS[3], ARGV[8])
	end
end
return answer("go")
`)

// deferred hands a task back for later. Only the runner that has it may.
//
// KEYS[1] record
// ARGV[1] runner, ARGV[2] state, ARGV[3] 1 when the request surely was not accepted
//
// Returns 1, or 0 when the task is no longer the runner's.
var deferred = redis.NewScript(`
local r = redis.call("HMGET", KEYS[1], "outcome", "run")
if r[1] or not r[2] or string.match(r[2], "^(%S+)") ~= ARGV[1] then return 0 end
redis.call("HSET", KEYS[1], "state", ARGV[2])
redis.call("HDEL", KEYS[1], "run")
if ARGV[3] == "1" then redis.call("HDEL", KEYS[1], "fence") end
return 1
`)

// settle writes the outcome of a task: first outcome wins. The owner of the fence may
// replace "unknown", when its answer came after all.
//
// KEYS[1] record, KEYS[2] stream, KEYS[3] image, KEYS[4] blob, KEYS[5] batch,
// KEYS[6] ids of the batch (5 and 6 only with a batch)
// ARGV[1] outcome, ARGV[2] result as JSON, ARGV[3] retention in ms, ARGV[4] cap of the
// stream, ARGV[5] image bytes or "", ARGV[6] generation, ARGV[7] runner when "unknown"
// is to be replaced, else "", ARGV[8] queue
//
// Returns {"written" | "kept", outcome, result}: what stands in the record now.
var settle = redis.NewScript(`
local r = redis.call("HMGET", KEYS[1], "outcome", "result", "generation", "fence")
if r[3] and r[3] ~= ARGV[6] then return {"kept", r[1] or "", r[2] or ""} end
local replaces = false
if r[1] then
	local owner = r[4] and string.match(r[4], '"runner":"([^"]*)"')
	if r[1] ~= "unknown" or ARGV[7] == "" or owner ~= ARGV[7] then return {"kept", r[1], r[2]} end
	replaces = true
end
redis.call("HSET", KEYS[1], "outcome", ARGV[1], "result", ARGV[2], "state", "done", "queue", ARGV[8], "generation", ARGV[6])
redis.call("HDEL", KEYS[1], "run", "lost", "attempts", "canceled")
if ARGV[1] ~= "unknown" then redis.call("HDEL", KEYS[1], "fence") end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
redis.call("XADD", KEYS[2], "MAXLEN", "~", ARGV[4], "*", "result", ARGV[2])
if ARGV[5] ~= "" then redis.call("SET", KEYS[3], ARGV[5], "PX", ARGV[3]) end
if ARGV[1] == "unknown" or ARGV[1] == "failed" then
	redis.call("PEXPIRE", KEYS[4], ARGV[3])
else
	redis.call("DEL", KEYS[4])
end
if KEYS[5] then
	redis.call("HINCRBY", KEYS[5], ARGV[1], 1)
	if replaces then
		redis.call("HINCRBY", KEYS[5], "unknown", -1)
	elseif redis.call("HINCRBY", KEYS[5], "done", 1) >= tonumber(redis.call("HGET", KEYS[5], "total") or 0) then
		redis.call("PEXPIRE", KEYS[5], ARGV[3])
		redis.call("PEXPIRE", KEYS[6], ARGV[3])
	end
end
return {"written", ARGV[1], ARGV[2]}
`)

// cancel marks a task as taken back, if it has not ended.
//
// KEYS[1] record. Returns none, done, sending or canceled. A task that is being sent is
// marked too: it ends as canceled only if WeChat did not take it.
var cancel = redis.NewScript(`
local r = redis.call("HMGET", KEYS[1], "queue", "outcome", "run")
if not r[1] then return "none" end
if r[2] then return "done" end
redis.call("HSET", KEYS[1], "canceled", 1)
if r[3] then return "sending" end
return "canceled"
`)
