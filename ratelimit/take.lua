-- Takes a block of up to n permits over all windows of a type, or tells why there is none.
--
-- KEYS  1 hold of the whole app   2 hold of the type
--       then three a row: its state (a hash), the log of its minute (a list
--       "bucket:count"), the replicas that draw on it (a sorted set by when they asked)
-- ARGV  1 now, µs (0: Redis' own clock)   2 the replica's id   3 n   4 ahead, µs
--       5 block, µs   6 bucket, µs   7 keep, µs   8 edge, µs   9 most of a lifetime at once
--       then eight a row: spacing in µs, minute's allowance, day's limit, lifetime's limit
--       (0: no such window), the part of the day's limit that bulk may use, and what the
--       replica knows of the row: its epoch, its sequence, whether Redis' clock has leapt since
-- Reply {1, now, bulk, row…, instant…}      granted, at these instants of Redis' clock, µs;
--                                           the first `bulk` of them also for bulk tasks
--       {0, now, wait, row, window, row…}   nothing now; ask again after wait µs; which
--                                           row (1…) and window (1 second … 4 lifetime) binds
--       {2, now, hold, field, value…}       held, by the hold of KEYS[hold]
--       where row… is five numbers a row: its epoch and sequence, and its spacing, minute's
--       allowance and day's limit as they are in force
local DAY, UTC8, SECOND = 86400000000, 28800000000, 1000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, me, n, ahead, block = num(ARGV[1]), ARGV[2], num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local bucket, keep, edge, cautious = num(ARGV[6]), num(ARGV[7]), num(ARGV[8]), num(ARGV[9])
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

-- The limits in force: what the arguments say, what WeChat said of its own (the lesser
-- holds), and after refusals only a part of it, which grows by a twentieth in ten seconds.
local function load_limits(r, factor, slowed, spacing, minute, per_day)
  r.spacing = math.max(r.spacing, num(spacing))
  if num(minute) > 0 and (r.minute == 0 or num(minute) < r.minute) then r.minute = num(minute) end
  if num(per_day) > 0 and (r.day == 0 or num(per_day) < r.day) then r.day = num(per_day) end
  if not factor then return end
  factor = math.min(1000, num(factor) + 50 * math.floor(math.max(0, now - num(slowed)) / (10 * SECOND)))
  r.spacing = math.ceil(r.spacing * 1000 / factor)
  if r.minute > 0 then r.minute = math.max(1, math.floor(r.minute * factor / 1000)) end
end

-- What Redis lost, it cannot tell by itself, but a replica that remembers can: another
-- epoch says that the row was made anew, a sequence that went back that writes are
-- missing, a leap that what is still reserved looks as if it had passed. Then the
-- row gives nothing until all that may be reserved has passed, and a window after it.
local function load_epoch(r, epoch, seq, lost)
  r.epoch, r.seq, r.lost = num(epoch), num(seq), num(lost)
  if r.lost > now then r.lost, r.dirty = now, true end
  if r.epoch == 0 then r.epoch, r.dirty = now, true end
  if r.known == 0 then return end
  if r.known == r.epoch and (r.seq < r.known_seq or r.leapt) then
    r.epoch = math.max(now, r.epoch + 1)
    r.lost, r.dirty = now, true
  elseif r.known ~= r.epoch and r.lost < math.min(r.epoch, now) then
    r.lost, r.dirty = math.min(r.epoch, now), true
  end
end

-- The instants that are reserved lie at most `ahead` in the future. One further away
-- tells that Redis' clock stepped back: then the furthest that is possible is assumed.
local function load_second(r, v)
  r.next = num(v)
  local furthest = now + ahead + r.spacing
  if r.next > furthest then r.next, r.dirty = furthest, true end
end

-- Drops the buckets whose time has passed. After a step back of the clock, calls that
-- seem to be of the future are put where the latest of them can be: one window withheld.
-- A log that is gone while its sum is not was lost, and counts as of now. What was taken
-- before has no bucket of its own any more, and is not given back.
local function load_minute(r, v)
  r.logged, r.last, r.added = num(v), -1, {}
  local tail = redis.call('LINDEX', r.log, -1)
  local future = tail and num(string.match(tail, '^(%d+)')) > math.floor((now + 2 * ahead) / bucket)
  if future or not tail and r.logged > 0 then
    redis.call('DEL', r.log)
    redis.call('RPUSH', r.log, int(math.floor((now + ahead) / bucket)) .. ':' .. int(r.logged))
    redis.call('HSET', r.state, 'folded', int(r.seq))
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

-- Whether the part of the day's limit that bulk may use has been used.
local function kept_day(r)
  if r.day == 0 then return false end
  local most = math.floor(r.day * r.bulk + 1e-9)
  return r.used > most or (r.late and r.tomorrow > most) or (r.early and r.yesterday > most)
end

-- A replica's share: of what the windows have room for in the time of a block, and never
-- more than a quarter of what is left, so that the last permits find those who need them.
local function share(r)
  redis.call('ZADD', r.active, int(now), me)
  redis.call('ZREMRANGEBYSCORE', r.active, '-inf', '(' .. int(now - SECOND))
  redis.call('ZREMRANGEBYSCORE', r.active, '(' .. int(now), '+inf')
  local k, most = redis.call('ZCARD', r.active), n
  if r.spacing > 0 then most = math.min(most, math.floor(block / r.spacing / k)) end
  if r.minute > 0 then most = math.min(most, math.floor((r.minute - r.logged) / 4 / k)) end
  if r.day > 0 then most = math.min(most, math.floor((r.day - r.used) / 4 / k)) end
  if r.total > 0 then most = math.min(most, cautious, math.floor((r.total - r.spent) / 4 / k)) end
  return math.max(1, most)
end

local rows = {}
for i = 1, (#KEYS - 2) / 3 do
  local k, a = 3 * i, 2 + 8 * i
  local r = {state = KEYS[k], log = KEYS[k + 1], active = KEYS[k + 2], spacing = num(ARGV[a]),
    minute = num(ARGV[a + 1]), day = num(ARGV[a + 2]), total = num(ARGV[a + 3]), bulk = num(ARGV[a + 4]),
    known = num(ARGV[a + 5]), known_seq = num(ARGV[a + 6]), leapt = num(ARGV[a + 7]) > 0}
  local v = redis.call('HMGET', r.state, 'next', 'logged', 'date', 'used', 'tomorrow', 'yesterday', 'total',
    'epoch', 'seq', 'lost', 'factor', 'slowed', 'learned_spacing', 'learned_minute', 'learned_day')
  load_limits(r, v[11], v[12], v[13], v[14], v[15])
  load_epoch(r, v[8], v[9], v[10])
  if r.spacing > 0 then load_second(r, v[1]) end
  if r.minute > 0 then load_minute(r, v[2]) end
  if r.day > 0 then load_day(r, v[3], v[4], v[5], v[6]) end
  r.spent = num(v[7])
  rows[i] = r
end
for _, r in ipairs(rows) do n = math.min(n, share(r)) end

-- The longest wait of all windows, 0 when each has room for one call.
local function look()
  local wait, row, window = 0, 0, 0
  local function full(w, i, kind)
    if w > wait then wait, row, window = w, i, kind end
  end
  for i, r in ipairs(rows) do
    if r.spacing > 0 then
      full(r.next - ahead - now, i, 1)
      full(r.lost > 0 and r.lost + 2 * SECOND - now or 0, i, 1)
    end
    if r.minute > 0 then
      if r.logged >= r.minute then full(r.free - now, i, 2) end
      full(r.lost > 0 and r.lost + keep + ahead - now or 0, i, 2)
    end
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

local instants, bulk, wait, row, window = {}, 0, 0, 0, 0
while #instants < n do
  wait, row, window = look()
  if wait > 0 then break end
  local at, kept = now, false
  for _, r in ipairs(rows) do
    if r.spacing > 0 then at = math.max(at, r.next) end
  end
  for _, r in ipairs(rows) do
    count(r, at)
    kept = kept or kept_day(r)
  end
  instants[#instants + 1] = at
  if not kept then bulk = #instants end
end

local function save(r)
  local set = {}
  local function put(field, v) set[#set + 1] = field; set[#set + 1] = int(v) end
  put('epoch', r.epoch); put('seq', r.seq); put('lost', r.lost)
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

local reply = {1, now, bulk}
if #instants == 0 then reply = {0, now, wait, row, window} end
for _, r in ipairs(rows) do
  if #instants > 0 then r.seq = r.seq + 1 end
  if r.dirty then save(r) end
  for _, v in ipairs({r.epoch, r.seq, r.spacing, r.minute, r.day}) do reply[#reply + 1] = v end
end
for _, at in ipairs(instants) do reply[#reply + 1] = at end
return reply
