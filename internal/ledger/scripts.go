package ledger

import "github.com/redis/go-redis/v9"

// markScript claims ids of one app for their queues, as many as there are pairs in ARGV. A batch
// that was taken back and has ended begins anew; while tasks of it are still under way, a
// task that joins it is taken back, too.
//
// A task that waits has no record: its mark shares a hash with others, which costs Redis a
// third to a half of what a key of its own would. A generation of 0 is what a mark means.
//
// KEYS[2i-1] record and KEYS[2i] marks of the i-th, KEYS[2n+1] batch, KEYS[2n+2] ids of the
// batch (these two only with a batch, which is then that of all)
// ARGV[2i-1] id, ARGV[2i] mark of the i-th
//
// Returns, flat, {"new" | "marked" | "done", queue, digest} for each, the queue with or
// without its app. "marked" means that another call claimed it first, into the queue that is
// returned, with the digest ("" is none); for "new" both are "". A mark that cannot be read
// gives way to this one. {"refused", error, ""} means that Redis did not want it: nothing of
// it is written then. (The error is text, since go-redis loses its place in a reply that has
// an error inside.)
var markScript = redis.NewScript(readMarkLua + `
local n = #ARGV / 2
local batch, ids = KEYS[2 * n + 1], {}
local notes = {} -- that tasks are missing, which are about to be enqueued; see missing.go
local function one(record, marks, id, mark)
	local there, ended = redis.call("EXISTS", record) == 1 -- most often not, and that is the cheapest question
	if there then
		local known = redis.pcall("HMGET", record, "queue", "outcome", "deleted", "missing", "digest")
		if known.err then return "refused", known.err, "" end
		if known[2] and known[3] then
			there, ended = false, record -- it never left, see endMissing: the id is free
		elseif known[2] then
			return "done", known[1] or "", known[5] or ""
		elseif known[1] then
			if known[4] then notes[#notes + 1] = {record, "missing"} end
			return "marked", known[1], known[5] or ""
		end
	end
	local written = redis.pcall("HSETNX", marks, id, mark)
	if written ~= 1 then
		notes[#notes + 1] = {marks, "?" .. id}
		local stands = redis.pcall("HGET", marks, id) -- when memory is full, too
		local _, queue, _, digest = read(type(stands) == "string" and stands or "")
		if queue then return "marked", queue, digest end
		if written == 0 then written = redis.pcall("HSET", marks, id, mark) end
		if type(written) == "table" then return "refused", written.err, "" end
		_, queue, _, digest = read(mark)
		return "marked", queue, digest
	end
	if there then redis.call("PERSIST", record) end
	if ended then redis.call("DEL", ended) end
	ids[#ids + 1] = id
	return "new", "", ""
end
local reply = {}
for i = 1, n do
	reply[3 * i - 2], reply[3 * i - 1], reply[3 * i] = one(KEYS[2 * i - 1], KEYS[2 * i], ARGV[2 * i - 1], ARGV[2 * i])
end
for _, note in ipairs(notes) do redis.pcall("HDEL", note[1], note[2]) end
if batch and #ids > 0 then
	local counts = redis.call("HMGET", batch, "total", "done")
	if tonumber(counts[2] or 0) >= tonumber(counts[1] or 0) then redis.call("HDEL", batch, "withdrawn") end
	redis.call("HINCRBY", batch, "total", #ids)
	redis.call("PERSIST", batch)
	redis.call("SADD", KEYS[2 * n + 2], unpack(ids))
	redis.call("PERSIST", KEYS[2 * n + 2])
end
return reply
`)

// openScript takes a task for a runner, or tells why the runner may not have it. Time is
// the server's, so that replicas' clocks do not matter.
//
// KEYS[1] record, KEYS[2] marks, KEYS[3] batch, KEYS[4] ids of the batch (3 and 4 only with
// a batch)
// ARGV[1] runner, ARGV[2] queue, ARGV[3] 1 when the request is unsafe to repeat or
// deduplicated for a while only (it is fenced), ARGV[4] ms for which a fenced request
// may be repeated, ARGV[5] ms after which a runner is held to be dead, ARGV[6] 1 when
// not_after has passed, ARGV[7] lost runs that end the task, ARGV[8] id, ARGV[9] 1 when
// the producer is known to have made a mark, ARGV[10] ms since 1970 at which a task without
// a mark was enqueued, 0 when not known
//
// Returns {what, ms, attempts, generation, since, doubt, enqueued}. what is go, settled,
// busy (ms: look again then), unknown, forgotten, lost, canceled or expired. doubt is 1 when
// an earlier request got no answer and WeChat may have taken it. enqueued is as the mark
// said it, "" when not known.
//
// The first run moves the mark into the record, with what it writes there anyway. A run
// that may not send leaves it to settle.
//
// Asked twice by one runner (its connection broke before the first answer came), it
// answers the same, and the runner's time begins again.
//
// A fence is a request that may have been written: whose run, which attempt, since when,
// and where there was one before this (doubt), when the first of them was written. Redis
// keeps a record of short values in a smaller form: most fences have up to 64 bytes.
// One that this runner did not raise outweighs a cancellation and an expiry: the message
// may be on its way.
//
// A batch's withdrawals are numbered; a redrive pardons its task those before it. That a
// runner has the task shows that its redrive got as far as asynq.
//
// A task without a mark joins its batch here, which may be long after it was enqueued: the
// last cancellation of the batch concerns it when it was enqueued before that, or at a time
// that is not known. It concerns no task that is enqueued when the batch has ended, as mark
// has it.
var openScript = redis.NewScript(readMarkLua + `
local runner, graceMs, lostLimit = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[7])
local fenced, repeatMs, expired = ARGV[3] == "1", tonumber(ARGV[4]), ARGV[6] == "1"
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local mark = redis.call("HGET", KEYS[2], ARGV[8])
local record = {} -- as a rule a task with a mark has none, and to ask that is cheaper than to ask for its fields
if not mark or redis.call("EXISTS", KEYS[1]) == 1 then
	record = redis.call("HMGET", KEYS[1], "outcome", "run", "fence", "canceled", "attempts", "generation", "queue", "pardon", "redrive", "enqueued")
end
local outcome, run, fence, canceled = record[1], record[2], record[3], record[4]
local attempts, generation, known = tonumber(record[5] or 0), tonumber(record[6] or 0), record[7]
local pardon, redrive, enqueued = tonumber(record[8] or 0), record[9], record[10]

local first -- of the earlier requests that got no answer
if fence then
	local mine = string.match(fence, '"runner":"([^"]*)"') == runner and not string.find(fence, '"doubt":1', 1, true)
	first = not mine and tonumber(string.match(fence, '"first":(%d+)') or string.match(fence, '"since":(%d+)')) or nil
end
local function answer(what, ms) return {what, ms or 0, attempts, generation, now, first and 1 or 0, enqueued or ""} end

if outcome then return answer("settled") end
local digest, _
if mark and not known then
	enqueued, known, _, digest = read(mark)
elseif not known then
	if ARGV[9] == "1" then return answer("forgotten") end
	redis.call("HSET", KEYS[1], "queue", ARGV[2], "generation", 0)
	if KEYS[3] then
		local batch = redis.call("HMGET", KEYS[3], "total", "done", "withdrawn_at")
		local withdrawnAt = tonumber(batch[3] or -1)
		if withdrawnAt >= tonumber(ARGV[10]) then
			redis.call("HSET", KEYS[1], "canceled", 1)
			canceled = 1
		elseif withdrawnAt >= 0 and tonumber(batch[2] or 0) >= tonumber(batch[1] or 0) then
			redis.call("HDEL", KEYS[3], "withdrawn")
		end
		redis.call("HINCRBY", KEYS[3], "total", 1)
		redis.call("PERSIST", KEYS[3])
		redis.call("SADD", KEYS[4], ARGV[8])
		redis.call("PERSIST", KEYS[4])
	end
end
local mine = run and string.match(run, "^(%S+)") == runner
if run and not mine then
	local dead = tonumber(string.match(run, " (%d+)$")) + graceMs
	if dead > now then return answer("busy", dead - now) end
	redis.call("HDEL", KEYS[1], "run")
	if redis.call("HINCRBY", KEYS[1], "lost", 1) >= lostLimit then
		return answer(first and "unknown" or "lost")
	end
end
canceled = canceled or (KEYS[3] and tonumber(redis.call("HGET", KEYS[3], "withdrawn") or 0) > pardon)
if first and (canceled or expired or now - first >= repeatMs) then return answer("unknown") end
if canceled then return answer("canceled") end
if expired then return answer("expired") end

if redrive then redis.call("HDEL", KEYS[1], "redrive", "payload", "headers") end
if not mine then attempts = attempts + 1 end
local run = runner .. " " .. string.format("%d", now)
if fenced then
	fence = string.format('{"runner":"%s","attempt":%d,"since":%d%s}', runner, attempts, now,
		first and string.format(',"first":%d,"doubt":1', first) or "")
end
if mark then
	redis.call("HSET", KEYS[1], "state", "sending", "run", run, "attempts", attempts,
		"queue", known or ARGV[2], "enqueued", enqueued or "", fenced and "fence" or "state", fenced and fence or "sending")
	if (digest or "") ~= "" then redis.call("HSET", KEYS[1], "digest", digest) end
	redis.call("HDEL", KEYS[2], ARGV[8])
elseif fenced then
	redis.call("HSET", KEYS[1], "state", "sending", "run", run, "attempts", attempts, "fence", fence)
else
	redis.call("HSET", KEYS[1], "state", "sending", "run", run, "attempts", attempts)
end
return answer("go")
`)

// deferScript hands a task back for later. Only the runner that has it may. A fence that
// stands for an earlier request without an answer stays.
//
// KEYS[1] record
// ARGV[1] runner, ARGV[2] state, ARGV[3] 1 when the request surely was not accepted,
// ARGV[4] 1 when there was none, so that the run is no attempt
//
// Returns 1, or 0 when the task is no longer the runner's.
var deferScript = redis.NewScript(`
local record = redis.call("HMGET", KEYS[1], "outcome", "run", "fence")
local outcome, run, fence = record[1], record[2], record[3]
if outcome or not run or string.match(run, "^(%S+)") ~= ARGV[1] then return 0 end
redis.call("HSET", KEYS[1], "state", ARGV[2])
redis.call("HDEL", KEYS[1], "run")
if ARGV[4] == "1" then redis.call("HINCRBY", KEYS[1], "attempts", -1) end
if ARGV[3] == "1" and fence and not string.find(fence, '"doubt":1', 1, true) then
	redis.call("HDEL", KEYS[1], "fence")
end
return 1
`)

// settleScript writes the outcome of a task: first outcome wins. The owner of the fence may
// replace "unknown", when its answer came after all.
//
// KEYS[1] record, KEYS[2] stream, KEYS[3] image, KEYS[4] blob, KEYS[5] marks, KEYS[6] batch,
// KEYS[7] ids of the batch (6 and 7 only with a batch)
// ARGV[1] outcome, ARGV[2] result as JSON, ARGV[3] retention in ms, ARGV[4] cap of the
// stream, ARGV[5] image bytes or "", ARGV[6] generation, ARGV[7] runner when "unknown"
// is to be replaced, else "", ARGV[8] queue, ARGV[9] payload of the task and ARGV[10] its
// headers as JSON, to be kept for a redrive, or "" and "", ARGV[11] 1 when the task never
// had a blob, ARGV[12] id
//
// A task that was never opened has its mark still, which ends here.
//
// It begins with a deletion: a script that has begun to write may go on when Redis'
// memory is full, and an outcome that is known is recorded also then.
//
// Returns {"written", outcome, ""}, or {"kept", outcome, result}: what stands in the
// record already.
var settleScript = redis.NewScript(readMarkLua + settleBody)

// settleBody is what settle does, for scripts that settle under a condition.
const settleBody = `
local record = redis.call("HMGET", KEYS[1], "outcome", "result", "generation", "fence", "queue")
local outcome, result, fence = record[1], record[2], record[4]
local mark = not record[5] and redis.call("HGET", KEYS[5], ARGV[12])
local generation = record[3] or (record[5] or mark) and "0"
if generation and generation ~= ARGV[6] then return {"kept", outcome or "", result or ""} end
local replaces = false
if outcome then
	local owner = fence and string.match(fence, '"runner":"([^"]*)"')
	if outcome ~= "unknown" or ARGV[7] == "" or owner ~= ARGV[7] then return {"kept", outcome, result} end
	replaces = true
end
redis.call("HDEL", KEYS[1], "run", "lost", "attempts", "canceled", "redrive", "payload", "headers", ARGV[1] ~= "unknown" and "fence" or "run",
	ARGV[9] == "" and "enqueued" or "run")
redis.call("HSET", KEYS[1], "outcome", ARGV[1], "result", ARGV[2], "state", "done", "queue", ARGV[8], "generation", ARGV[6])
if ARGV[9] ~= "" then redis.call("HSET", KEYS[1], "payload", ARGV[9], "headers", ARGV[10]) end
if mark then
	redis.call("HDEL", KEYS[5], ARGV[12])
	local enqueued, _, _, digest = read(mark)
	if ARGV[9] ~= "" then redis.call("HSET", KEYS[1], "enqueued", enqueued or "") end
	if (digest or "") ~= "" then redis.call("HSET", KEYS[1], "digest", digest) end
end
redis.call("PEXPIRE", KEYS[1], ARGV[3])
redis.call("XADD", KEYS[2], "MAXLEN", "~", ARGV[4], "*", "result", ARGV[2])
if ARGV[5] ~= "" then redis.call("SET", KEYS[3], ARGV[5], "PX", ARGV[3]) end
if ARGV[11] ~= "1" then
	if ARGV[9] ~= "" then redis.call("PEXPIRE", KEYS[4], ARGV[3]) else redis.call("DEL", KEYS[4]) end
end
if KEYS[6] then
	redis.call("HINCRBY", KEYS[6], ARGV[1], 1)
	if replaces then
		redis.call("HINCRBY", KEYS[6], "unknown", -1)
	elseif redis.call("HINCRBY", KEYS[6], "done", 1) >= tonumber(redis.call("HGET", KEYS[6], "total") or 0) then
		redis.call("PEXPIRE", KEYS[6], ARGV[3])
		redis.call("PEXPIRE", KEYS[7], ARGV[3])
	end
end
return {"written", ARGV[1], ""}
`

// putBlobScript keeps the image of a check for a task that has not ended. The first image of
// an id stays.
//
// KEYS[1] record, KEYS[2] blob. ARGV[1] the bytes
var putBlobScript = redis.NewScript(`
if redis.call("HEXISTS", KEYS[1], "outcome") == 0 then redis.call("SET", KEYS[2], ARGV[1], "NX") end
return 1
`)

// cancelScript marks a task as taken back, if it has not ended. One that waits for its first run
// gets its record here: its mark moves there.
//
// KEYS[1] record, KEYS[2] marks. ARGV[1] id. Returns none, done, sending or canceled. A task
// that is being sent is marked too: it ends as canceled only if WeChat did not take it.
var cancelScript = redis.NewScript(readMarkLua + `
local r = redis.call("HMGET", KEYS[1], "queue", "outcome", "run")
if r[2] then return "done" end
if not r[1] then
	local mark = redis.call("HGET", KEYS[2], ARGV[1])
	if not mark then return "none" end
	local enqueued, queue, state, digest = read(mark)
	if enqueued then
		redis.call("HSET", KEYS[1], "canceled", 1, "queue", queue, "enqueued", enqueued, "state", state ~= "" and state or "waiting")
		if digest ~= "" then redis.call("HSET", KEYS[1], "digest", digest) end
		redis.call("HDEL", KEYS[2], ARGV[1])
		return "canceled"
	end -- else the task keeps what it has for a mark, which open judges
end
redis.call("HSET", KEYS[1], "canceled", 1)
if r[3] then return "sending" end
return "canceled"
`)
