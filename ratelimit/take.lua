-- Takes up to n permits over all windows of a type, or tells why there is none.
--
-- KEYS  1 hold of the whole app   2 hold of the type
--       then two a row: its state (a hash), the log of its minute (a list "bucket:count")
-- ARGV  1 now, µs (0: Redis' own clock)   2 n   3 ahead, µs   4 bucket, µs
--       5 keep, µs   6 edge, µs
--       then four a row: spacing in µs, minute's allowance, day's limit, lifetime's limit
--       (0: no such window)
-- Reply {1, now, instant…}                  granted, at these instants of Redis' clock, µs
--       {0, now, wait, row, window}         nothing now; ask again after wait µs; which
--                                           row (1…) and window (1 second … 4 lifetime) binds
--       {2, now, hold, field, value…}       held, by the hold of KEYS[hold]
local DAY, UTC8 = 86400000000, 28800000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, n, ahead = num(ARGV[1]), num(ARGV[2]), num(ARGV[3])
local bucket, keep, edge = num(ARGV[4]), num(ARGV[5]), num(ARGV[6])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end

-- Of two holds the one that ends last answers; one without an end outlasts all.
local held, latest = 0, 0
for i = 1, 2 do
  local ends = redis.call('HGET', KEYS[i], 'until')
  if ends then
    ends = num(ends) * 1000
    if ends == 0 then ends = math.huge end
    if ends > now and ends > latest then held, latest = i, ends end
  end
end
if held > 0 then
  local reply = {2, now, held}
  for _, v in ipairs(redis.call('HGETALL', KEYS[held])) do reply[#reply + 1] = v end
  return reply
end

local today = math.floor((now + UTC8) / DAY)
local into = now + UTC8 - today * DAY

-- The instants that are reserved lie at most `ahead` in the future. One further away
-- tells that Redis' clock stepped back: then the furthest that is possible is assumed.
local function load_second(r, v)
  r.next = num(v)
  local furthest = now + ahead + r.spacing
  if r.next > furthest then r.next, r.dirty = furthest, true end
end

-- Drops the buckets whose time has passed. After a step back of the clock, calls that
-- seem to be of the future are put where the latest of them can be: one window withheld.
local function load_minute(r, v)
  r.logged, r.last, r.added = num(v), -1, {}
  local tail = redis.call('LINDEX', r.log, -1)
  if tail and num(string.match(tail, '^(%d+)')) > math.floor((now + 2 * ahead) / bucket) then
    redis.call('DEL', r.log)
    redis.call('RPUSH', r.log, int(math.floor((now + ahead) / bucket)) .. ':' .. int(r.logged))
  end
  while true do
    local head = redis.call('LINDEX', r.log, 0)
    if not head then
      if r.logged ~= 0 then r.logged, r.dirty = 0, true end
      return
    end
    local b, count = string.match(head, '^(%d+):(%d+)$')
    r.free = (num(b) + 1) * bucket + keep
    if r.free > now and num(count) > 0 then break end
    redis.call('LPOP', r.log)
    r.logged, r.dirty = r.logged - num(count), true
  end
  local b, count = string.match(redis.call('LINDEX', r.log, -1), '^(%d+):(%d+)$')
  r.last, r.count = num(b), num(count)
end

-- The counts of the date, and of the dates beside it for calls close to midnight. A date
-- of tomorrow (the clock stepped back over midnight) is kept; one further away is not
-- believed, but its count is.
local function load_day(r, date, used, tomorrow, yesterday)
  r.date, r.used, r.tomorrow, r.yesterday = num(date), num(used), num(tomorrow), num(yesterday)
  if r.date == today - 1 then
    r.date, r.yesterday, r.used, r.tomorrow, r.dirty = today, r.used, r.tomorrow, 0, true
  elseif r.date < today then
    r.date, r.yesterday, r.used, r.tomorrow, r.dirty = today, 0, 0, 0, true
  elseif r.date > today + 1 then
    r.date, r.used, r.dirty = today, math.max(r.used, r.yesterday), true
    r.yesterday, r.tomorrow = 0, 0
  end
  r.late = r.date == today and into >= DAY - edge
  r.early = r.date > today or into < edge
end

-- Until midnight, and over its edge; within the edge already, only that.
local function wait_day(r)
  if r.used < r.day and r.date == today and into < edge then return edge - into end
  return DAY - into + edge
end

local function full_day(r)
  return r.used >= r.day or (r.late and r.tomorrow >= r.day) or (r.early and r.yesterday >= r.day)
end

local rows = {}
for i = 1, (#KEYS - 2) / 2 do
  local a = 3 + 4 * i
  local r = {state = KEYS[1 + 2 * i], log = KEYS[2 + 2 * i], spacing = num(ARGV[a]),
    minute = num(ARGV[a + 1]), day = num(ARGV[a + 2]), total = num(ARGV[a + 3])}
  local v = redis.call('HMGET', r.state, 'next', 'logged', 'date', 'used', 'tomorrow', 'yesterday', 'total')
  if r.spacing > 0 then load_second(r, v[1]) end
  if r.minute > 0 then load_minute(r, v[2]) end
  if r.day > 0 then load_day(r, v[3], v[4], v[5], v[6]) end
  r.spent = num(v[7])
  rows[i] = r
end

-- The longest wait of all windows, 0 when each has room for one call.
local function look()
  local wait, row, window = 0, 0, 0
  local function full(w, i, kind)
    if w > wait then wait, row, window = w, i, kind end
  end
  for i, r in ipairs(rows) do
    if r.spacing > 0 then full(r.next - ahead - now, i, 1) end
    if r.minute > 0 and r.logged >= r.minute then full(r.free - now, i, 2) end
    if r.day > 0 and full_day(r) then full(wait_day(r), i, 3) end
    if r.total > 0 and r.spent >= r.total then full(DAY, i, 4) end
  end
  return wait, row, window
end

-- Counts one call at an instant. Buckets only grow: what comes for an earlier one than
-- the last counts in the last, which is later and so never too early.
local function count(r, at)
  r.dirty = true
  if r.spacing > 0 then r.next = at + r.spacing end
  if r.minute > 0 then
    if r.logged == 0 then r.free = (math.floor(at / bucket) + 1) * bucket + keep end
    r.logged = r.logged + 1
    local b, a = math.max(math.floor(at / bucket), r.last), r.added
    if #a > 0 and a[#a].bucket == b then
      a[#a].count = a[#a].count + 1
    else
      a[#a + 1] = {bucket = b, count = 1}
    end
  end
  if r.day > 0 then
    r.used = r.used + 1
    if r.late then r.tomorrow = r.tomorrow + 1 end
    if r.early then r.yesterday = r.yesterday + 1 end
  end
  if r.total > 0 then r.spent = r.spent + 1 end
end

local reply, wait, row, window = {1, now}, 0, 0, 0
while #reply < n + 2 do
  wait, row, window = look()
  if wait > 0 then break end
  local at = now
  for _, r in ipairs(rows) do
    if r.spacing > 0 then at = math.max(at, r.next) end
  end
  for _, r in ipairs(rows) do count(r, at) end
  reply[#reply + 1] = at
end

local function save(r)
  local set = {}
  local function put(field, v) set[#set + 1] = field; set[#set + 1] = int(v) end
  if r.spacing > 0 then put('next', r.next) end
  if r.minute > 0 then
    put('logged', r.logged)
    for _, a in ipairs(r.added) do
      if a.bucket == r.last then
        redis.call('LSET', r.log, -1, int(a.bucket) .. ':' .. int(r.count + a.count))
      else
        redis.call('RPUSH', r.log, int(a.bucket) .. ':' .. int(a.count))
      end
    end
  end
  if r.day > 0 then
    put('date', r.date); put('used', r.used)
    put('tomorrow', r.tomorrow); put('yesterday', r.yesterday)
  end
  if r.total > 0 then put('total', r.spent) end
  redis.call('HSET', r.state, unpack(set))
end
for _, r in ipairs(rows) do
  if r.dirty then save(r) end
end

if #reply == 2 then return {0, now, wait, row, window} end
return reply
