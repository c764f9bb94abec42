package ledger

import "github.com/redis/go-redis/v9"

// markScript claims ids of one app for their queues, one per pair in ARGV. A canceled batch whose
// tasks have all ended starts again; while tasks of it are open, a task that joins it is
// canceled as well.
//
// A waiting task has no record: its mark shares a hash with others, which costs Redis a third
// to a half of the memory of a key of its own. A marked task has generation 0.
//
// KEYS[2i-1] record and KEYS[2i] marks of the i-th id, KEYS[2n+1] batch, KEYS[2n+2] ids of the
// batch, KEYS[2n+3] the app's batches (these three only with a batch, which is the same for all ids)
// ARGV[2i-1] i-th id, ARGV[2i] its mark, ARGV[2n+1] name of the batch, ARGV[2n+2] now, in µs since 1970
// (these two only with a batch)
//
// Returns, flat, {"new" | "marked" | "done", queue, digest} for each id, the queue with or
// without its app. "marked" means that an earlier call claimed the id, for the returned queue and
// with the returned digest ("" is none); for "new" both are "". A mark that cannot be parsed is
// replaced by the new one. {"refused", error, ""} means that Redis returned an error: nothing
// is written for this id. (The error is text, since go-redis cannot parse a reply with an
// error inside.)
var markScript = redis.NewScript(readMarkLua + `
local n = math.floor(#KEYS / 2)
if #KEYS % 2 == 1 then n = n - 1 end
local batch, ids = KEYS[2 * n + 1], {}
local notes = {} -- notes that these tasks are missing, to be deleted; see missing.go
local function one(record, marks, id, mark)
	local there, ended = redis.call("EXISTS", record) == 1 -- rarely, and EXISTS is the cheapest check
	if there then
		local known = redis.pcall("HMGET", record, "queue", "outcome", "deleted", "missing", "digest")
		if known.err then return "refused", known.err, "" end
		if known[2] and known[3] then
			there, ended = false, record -- never sent, see endMissingScript: the id is free
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
		local old = redis.pcall("HGET", marks, id) -- also works when memory is full
		local _, queue, _, digest = read(type(old) == "string" and old or "")
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
	local batches, name, now = KEYS[2 * n + 3], ARGV[2 * n + 1], ARGV[2 * n + 2]
` + enqueuedInLua + `
end
return reply
`)

// openScript assigns a task to a runner, or returns why the runner may not have it. The time is
// that of Redis, so that replicas' clocks do not matter.
//
// KEYS[1] record, KEYS[2] marks, KEYS[3] batch, KEYS[4] ids of the batch (3 and 4 only with
// a batch), KEYS[5] the app's batches (with a batch, if no mark is known to have been made)
// ARGV[1] runner, ARGV[2] queue, ARGV[3] 1 when the request is fenced: it is not safe to repeat,
// or WeChat deduplicates it for a limited time, ARGV[4] ms for which a fenced request may be
// repeated, ARGV[5] ms after which a runner counts as dead, ARGV[6] 1 when not_after has passed,
// ARGV[7] number of lost runs that ends the task, ARGV[8] id, ARGV[9] 1 when the producer is
// known to have made a mark, ARGV[10] time of enqueuing of a task without a mark, ms since
// 1970, 0 if unknown, ARGV[11] name of the batch, with KEYS[5]
//
// Returns {admission, ms, attempts, generation, since, doubt, enqueued}. admission is go,
// settled, busy (ms: open again after this wait), unknown, forgotten, lost, canceled or expired.
// doubt is 1 when an earlier request got no answer and WeChat may have accepted it. enqueued is
// that of the mark, "" if unknown.
//
// The first run moves the mark into the record. A run that may not send leaves the mark to
// settleScript.
//
// A second call by the same runner (its connection broke before the first reply arrived)
// returns the same, and the time of the run starts again.
//
// A fence is a request that may have been sent: its runner, its attempt, its time, and if there
// was an earlier one (doubt), the time of the first one. Redis stores a record of short values in
// a smaller form: most fences have at most 64 bytes. A fence of another run takes precedence over
// a cancellation and an expiry, since the message may have been sent.
//
// The cancellations of a batch are numbered; a redrive exempts its task from the earlier ones
// (the field pardon). When a runner has the task, its redrive has reached asynq.
//
// A task without a mark joins its batch here, maybe long after it was enqueued. The batch's last
// cancellation applies to it if it was enqueued before that, or at an unknown time. As in
// markScript, the cancellation does not apply to a task that is enqueued after the batch has
// ended.
var openScript = redis.NewScript(readMarkLua + `
local runner, graceMs, lostLimit = ARGV[1], tonumber(ARGV[5]), tonumber(ARGV[7])
local fenced, repeatMs, expired = ARGV[3] == "1", tonumber(ARGV[4]), ARGV[6] == "1"
local t = redis.call("TIME")
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local mark = redis.call("HGET", KEYS[2], ARGV[8])
local record = {} -- a task with a mark rarely has one, and EXISTS is cheaper than HMGET
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
local function reply(admission, ms) return {admission, ms or 0, attempts, generation, now, first and 1 or 0, enqueued or ""} end

if outcome then return reply("settled") end
local digest, _
if mark and not known then
	enqueued, known, _, digest = read(mark)
elseif not known then
	if ARGV[9] == "1" then return reply("forgotten") end
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
		local batches, name, now = KEYS[5], ARGV[11], string.format("%d%06d", t[1], t[2])
` + enqueuedInLua + `
	end
end
local mine = run and string.match(run, "^(%S+)") == runner
if run and not mine then
	local dead = tonumber(string.match(run, " (%d+)$")) + graceMs
	if dead > now then return reply("busy", dead - now) end
	redis.call("HDEL", KEYS[1], "run")
	if redis.call("HINCRBY", KEYS[1], "lost", 1) >= lostLimit then
		return reply(first and "unknown" or "lost")
	end
end
canceled = canceled or (KEYS[3] and tonumber(redis.call("HGET", KEYS[3], "withdrawn") or 0) > pardon)
if first and (canceled or expired or now - first >= repeatMs) then return reply("unknown") end
if canceled then return reply("canceled") end
if expired then return reply("expired") end

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
return reply("go")
`)

// deferScript returns a task for a later run. Only its current runner may do so. A fence that
// includes an earlier request without an answer stays.
//
// KEYS[1] record
// ARGV[1] runner, ARGV[2] state, ARGV[3] 1 when the request was certainly not accepted,
// ARGV[4] 1 when there was no request, so that the run does not count as an attempt, ARGV[5] and
// ARGV[6] the answer, see Answer.fields; "" and "" keep the one before, ARGV[7] ms for which the task
// is handed back
//
// Returns 1, or 0 when the task has another runner or none.
var deferScript = redis.NewScript(`
local record = redis.call("HMGET", KEYS[1], "outcome", "run", "fence")
local outcome, run, fence = record[1], record[2], record[3]
if outcome or not run or string.match(run, "^(%S+)") ~= ARGV[1] then return 0 end
if ARGV[5] ~= "" then
` + logLua + `
	redis.call("HSET", KEYS[1], "state", ARGV[2], "last", ARGV[5], "last_msg", ARGV[6], "last_wait", ARGV[7])
else
	redis.call("HSET", KEYS[1], "state", ARGV[2])
end
redis.call("HDEL", KEYS[1], "run")
if ARGV[4] == "1" then redis.call("HINCRBY", KEYS[1], "attempts", -1) end
if ARGV[3] == "1" and fence and not string.find(fence, '"doubt":1', 1, true) then
	redis.call("HDEL", KEYS[1], "fence")
end
return 1
`)

// settleScript writes the outcome of a task: the first outcome wins, except that the owner of
// the fence may replace "unknown" when its answer arrives late.
//
// KEYS[1] record, KEYS[2] stream, KEYS[3] image, KEYS[4] blob, KEYS[5] marks, KEYS[6] the cut of
// the stream, KEYS[7] batch, KEYS[8] ids of the batch (7 and 8 only with a batch), and last, where
// a receipt is awaited, the msgid of an accepted message, or the messages with the outcome unknown
// ARGV[1] outcome, ARGV[2] result as JSON, ARGV[3] retention in ms, ARGV[4] maximum length of
// the stream, 0 for none, ARGV[5] image bytes or "", ARGV[6] generation, ARGV[7] runner that may replace
// "unknown", else "", ARGV[8] queue, ARGV[9] payload of the task and ARGV[10] its headers as
// JSON, stored for a redrive, or "" and "", ARGV[11] 1 when the task never had a blob,
// ARGV[12] id, ARGV[13] retention of the stream in ms, ARGV[14] the value or member of the last key
//
// The mark of a task that was never opened is deleted here. The answers of its failed attempts stay.
//
// The first write is a deletion: Redis lets a script continue that has begun to write before
// its memory was full, so that a known outcome is recorded even then.
//
// Returns {"written", outcome, ""}, or {"kept", outcome, result} with the outcome that the
// record has already.
var settleScript = redis.NewScript(readMarkLua + settleBody)

// settleBody is the body of settleScript, also used by scripts that settle under a condition.
var settleBody = `
local batch, awaited = #KEYS >= 8 and KEYS[7], #KEYS % 2 == 1 and KEYS[#KEYS]
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
redis.call("HDEL", KEYS[1], "run", "lost", "attempts", "canceled", "redrive", "payload", "headers", "trace", ARGV[1] ~= "unknown" and "fence" or "run",
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
local entry = redis.call("XADD", KEYS[2], "*", "result", ARGV[2])
if redis.call("XLEN", KEYS[2]) % 16 == 0 then
	local stream, cut = KEYS[2], KEYS[6]
	local now = tonumber(string.match(entry, "^%d+"))
	local minimum, most = now - ARGV[13], tonumber(ARGV[4])
` + trimLua + `
end
if awaited and ARGV[1] == "accepted" then
	redis.call("SET", awaited, ARGV[14], "PX", string.format("%d", ARGV[3] + ` + msgIDGraceMs + `))
elseif awaited then
` + awaitUnknownLua + `
end
if ARGV[5] ~= "" then redis.call("SET", KEYS[3], ARGV[5], "PX", ARGV[3]) end
if ARGV[11] ~= "1" then
	if ARGV[9] ~= "" then redis.call("PEXPIRE", KEYS[4], ARGV[3]) else redis.call("DEL", KEYS[4]) end
end
if batch then
	redis.call("HINCRBY", batch, ARGV[1], 1)
	if replaces then
		redis.call("HINCRBY", batch, "unknown", -1)
	elseif redis.call("HINCRBY", batch, "done", 1) >= tonumber(redis.call("HGET", batch, "total") or 0) then
		redis.call("PEXPIRE", batch, ARGV[3])
		redis.call("PEXPIRE", KEYS[8], ARGV[3])
	end
end
return {"written", ARGV[1], ""}
`

// putBlobScript stores the image of a check for a task that has not ended. The first image of
// an id stays.
//
// KEYS[1] record, KEYS[2] blob. ARGV[1] the bytes
var putBlobScript = redis.NewScript(`
if redis.call("HEXISTS", KEYS[1], "outcome") == 0 then redis.call("SET", KEYS[2], ARGV[1], "NX") end
return 1
`)

// cancelScript cancels a task that has not ended. The mark of a task that waits for its first run
// moves to a new record.
//
// KEYS[1] record, KEYS[2] marks. ARGV[1] id. Returns none, done, sending or canceled. A task
// that is being sent is canceled too: it ends as canceled only if WeChat did not accept it. A task
// that waits for a push (see traces.go) was accepted: its push ends it.
var cancelScript = redis.NewScript(readMarkLua + `
local r = redis.call("HMGET", KEYS[1], "queue", "outcome", "run", "trace")
if r[2] then return "done" end
if r[4] then return "sending" end
if not r[1] then
	local mark = redis.call("HGET", KEYS[2], ARGV[1])
	if not mark then return "none" end
	local enqueued, queue, state, digest = read(mark)
	if enqueued then
		redis.call("HSET", KEYS[1], "canceled", 1, "queue", queue, "enqueued", enqueued, "state", state ~= "" and state or "waiting")
		if digest ~= "" then redis.call("HSET", KEYS[1], "digest", digest) end
		redis.call("HDEL", KEYS[2], ARGV[1])
		return "canceled"
	end -- else: the mark cannot be parsed and stays; openScript handles it
end
redis.call("HSET", KEYS[1], "canceled", 1)
if r[3] then return "sending" end
return "canceled"
`)
