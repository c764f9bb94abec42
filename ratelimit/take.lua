-- Takes a block of up to n permits that all windows of a type have room for, or returns why
-- there is none.
--
-- KEYS  1 hold of the whole app   2 hold of the type
--       then three per row: its state (a hash), the log of its minute (a list of
--       "bucket:count"), the lanes that share it (a sorted set of "id demand" by the time of
--       their last request)
-- ARGV  1 now, µs (0: Redis' own clock)   2 the lane's id   3 n   4 horizon, µs
--       5 duration of a block, µs   6 bucket, µs   7 life of a bucket after its end, µs
--       8 skew of the clocks at midnight, µs   9 largest block of a lifetime's limit
--       10 the lane's demand, permits a second (0: a single request, the lane is not recorded)
--       11 the last instant that the lane holds, µs (0: none)   12 cell, µs
--       13 how long a row grants nothing after its limit per second was lowered, µs
--       then eight per row: spacing in µs, minute's allowance, day's limit, lifetime's limit
--       (0: no such window), the share of the day's limit that bulk tasks may use, and what the
--       replica last saw of the row: its epoch, its sequence, 1 if Redis' clock has jumped
--       forward since
-- Reply {1, now, bulk, spread, row…, instant…}   granted, at these instants of Redis' clock, µs;
--                                           bulk tasks may use the first `bulk` of them;
--                                           spread: µs between them, 0 when not spread out
--       {0, now, wait, row, window, row…}   none now, retry after wait µs; the row (1…) and
--                                           window (1 second … 4 lifetime) with the longest wait
--       {2, now, hold, field, value…}       held by the hold of KEYS[hold], with its fields
--       row… is five numbers per row: its epoch and sequence, and the spacing, minute's
--       allowance and day's limit in force
local DAY, UTC8, SECOND, INSATIABLE = 86400000000, 28800000000, 1000000, 1000000

local function num(v) return tonumber(v) or 0 end
local function int(v) return string.format('%.0f', v) end

local now, lane_id, n, horizon, block_time = num(ARGV[1]), ARGV[2], num(ARGV[3]), num(ARGV[4]), num(ARGV[5])
local bucket, bucket_ttl, skew, max_total_block = num(ARGV[6]), num(ARGV[7]), num(ARGV[8]), num(ARGV[9])
local demand, last_instant, cell, lowered_pause = num(ARGV[10]), num(ARGV[11]), num(ARGV[12]), num(ARGV[13])
if now == 0 then
  local t = redis.call('TIME')
  now = num(t[1]) * 1000000 + num(t[2])
end

-- Of two holds the one that ends later is reported; a hold without an end outlasts all others.
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
local since_midnight = now + UTC8 - today * DAY

-- The limits in force: the lower of the configured limit (from the arguments) and the learned
-- one (from the row), reduced after refusals to a factor that recovers by a twentieth every
-- ten seconds.
local function load_limits(r, factor, slowed, spacing, minute, per_day)
  r.spacing = math.max(r.spacing, num(spacing))
  if num(minute) > 0 and (r.minute == 0 or num(minute) < r.minute) then r.minute = num(minute) end
  if num(per_day) > 0 and (r.day == 0 or num(per_day) < r.day) then r.day = num(per_day) end
  if not factor then return end
  factor = math.min(1000, num(factor) + 50 * math.floor(math.max(0, now - num(slowed)) / (10 * SECOND)))
  r.spacing = math.ceil(r.spacing * 1000 / factor)
  if r.minute > 0 then r.minute = math.max(1, math.floor(r.minute * factor / 1000)) end
end

-- Redis cannot detect by itself that it lost data, but a replica that remembers the row can:
-- another epoch means that the row was created again, a lower sequence that writes are missing,
-- and a forward jump of the clock that reserved instants seem to have passed. The row then
-- grants nothing until all instants that may be reserved have passed, plus one window.
local function load_epoch(r, epoch, seq, lost)
  r.epoch, r.seq, r.lost = num(epoch), num(seq), num(lost)
  if r.lost > now then r.lost, r.dirty = now, true end
  if r.epoch == 0 then r.epoch, r.dirty = now, true end
  if r.known == 0 then return end
  if r.known == r.epoch and (r.seq < r.known_seq or r.jumped) then
    r.epoch = math.max(now, r.epoch + 1)
    r.lost, r.dirty = now, true
  elseif r.known ~= r.epoch and r.lost < math.min(r.epoch, now) then
    r.lost, r.dirty = math.min(r.epoch, now), true
  end
end

-- Reserved instants lie at most `horizon` in the future. One further away means that Redis'
-- clock stepped back: the furthest possible instant is assumed.
local function load_second(r, v)
  r.next = num(v)
  local furthest = now + horizon + r.spacing
  if r.next > furthest then r.next, r.dirty = furthest, true end
end

-- Instants that are spread out leave free slots between them. A cell is a run of slots. The
-- field `cells` contains "origin spacing next first taken…": how many slots of each cell are
-- taken, from cell `first` on; earlier cells are full. It is valid as long as spacing and next
-- are unchanged. Without a valid field, all slots before next are taken.
local function load_cells(r, v)
  r.origin, r.first, r.cells = math.max(now, r.next), 0, {}
  r.per_cell = math.max(1, math.floor(cell / r.spacing))
  r.saved = v or ''
  if r.next <= now or r.saved == '' then return end
  local origin, gap, after, first, rest = string.match(v, '^(%d+) (%d+) (%d+) (%d+)(.*)$')
  if num(gap) ~= r.spacing or num(after) ~= r.next then return end
  r.origin, r.first = num(origin), num(first)
  local i = r.first
  for taken in string.gmatch(rest, '%d+') do
    r.cells[i] = num(taken)
    i = i + 1
  end
end

-- Drops the buckets whose time has passed. After a step back of the clock, buckets that lie in
-- the future are merged into the latest possible one, which withholds one window. A log that is
-- missing while its sum is not was lost: the sum counts as of now. Permits granted before have
-- no bucket of their own any more (`folded`), and are not given back.
local function load_minute(r, v)
  r.logged, r.last, r.added = num(v), -1, {}
  local tail = redis.call('LINDEX', r.log, -1)
  local future = tail and num(string.match(tail, '^(%d+)')) > math.floor((now + 2 * horizon) / bucket)
  if future or not tail and r.logged > 0 then
    redis.call('DEL', r.log)
    redis.call('RPUSH', r.log, int(math.floor((now + horizon) / bucket)) .. ':' .. int(r.logged))
    redis.call('HSET', r.state, 'folded', int(r.seq))
  end
  while true do
    local head = redis.call('LINDEX', r.log, 0)
    if not head then
      if r.logged ~= 0 then r.logged, r.dirty = 0, true end
      return
    end
    local b, count = string.match(head, '^(%d+):(%d+)$')
    r.free = (num(b) + 1) * bucket + bucket_ttl
    if r.free > now and num(count) > 0 then break end
    redis.call('LPOP', r.log)
    r.logged, r.dirty = r.logged - num(count), true
  end
  local b, count = string.match(redis.call('LINDEX', r.log, -1), '^(%d+):(%d+)$')
  r.last, r.count = num(b), num(count)
end

-- The counts of the date, and of the adjacent dates for calls close to midnight. A date of
-- tomorrow (the clock stepped back over midnight) is kept. A later one is replaced by today,
-- with its count.
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
  r.late = r.date == today and since_midnight >= DAY - skew
  r.early = r.date > today or since_midnight < skew
end

-- The wait until the day's limit has room: until midnight plus the skew, or until the end of
-- the skew after midnight when only yesterday is full.
local function wait_day(r)
  if r.used < r.day and r.date == today and since_midnight < skew then return skew - since_midnight end
  return DAY - since_midnight + skew
end

-- Reports whether one of the dates that a call counts on is full.
local function full_day(r)
  return r.used >= r.day or (r.late and r.tomorrow >= r.day) or (r.early and r.yesterday >= r.day)
end

-- How many more bulk calls the day's limit allows.
local function bulk_day(r)
  if r.day == 0 then return n end
  local most = math.floor(r.day * r.bulk + 1e-9)
  local left = most - r.used
  if r.late then left = math.min(left, most - r.tomorrow) end
  if r.early then left = math.min(left, most - r.yesterday) end
  return math.max(0, left)
end

-- Records this lane's demand, and returns the demands of the other lanes that made a request
-- within the last second. A member without a demand was written by an earlier version, and
-- counts as insatiable.
local function other_demands(r)
  local expired, demands, mine = {}, {}, lane_id .. ' ' .. int(demand)
  local members = redis.call('ZRANGE', r.active, 0, -1, 'WITHSCORES')
  for i = 1, #members, 2 do
    local id, wants = string.match(members[i], '^(%S+) ?(%d*)$')
    local requested = num(members[i + 1])
    if requested < now - SECOND or requested > now or (demand > 0 and id == lane_id and members[i] ~= mine) then
      if #expired < 1000 then expired[#expired + 1] = members[i] end
    elseif id ~= lane_id then
      demands[#demands + 1] = tonumber(wants) or INSATIABLE
    end
  end
  if #expired > 0 then redis.call('ZREM', r.active, unpack(expired)) end
  if demand > 0 then redis.call('ZADD', r.active, int(now), mine) end
  return demands
end

-- The max-min fair share of a rate: a lane that demands less than an equal part gets its
-- demand, and the other lanes share the rest equally. The second result is true when all
-- demands together exceed the rate.
local function max_min_share(rate, demands)
  local sum, left = 0, rate
  table.sort(demands)
  for _, d in ipairs(demands) do sum = sum + d end
  for i, d in ipairs(demands) do
    local level = left / (#demands - i + 1)
    if d > level then return math.min(level, demand), sum > rate end
    left = left - d
  end
  return demand, sum > rate
end

-- The lane's share: its part of the pace for the duration of a block, and at most a quarter of
-- what is left of the longer windows, divided by the number of lanes, so that the last permits
-- are not all held by one lane. While the demands of all lanes exceed the pace, instants are
-- spread out, so that a lane can use them one after the other.
local function share(r)
  local demands = other_demands(r)
  local lanes, most = #demands + 1, n
  if r.spacing > 0 and demand > 0 then
    demands[lanes] = demand
    local rate, contended = max_min_share(SECOND / r.spacing, demands)
    most = math.min(most, math.floor(block_time * rate / SECOND))
    if contended and lanes > 1 then
      r.step = SECOND / rate / r.spacing
      r.saturated = demand <= rate
    end
  end
  if r.minute > 0 then most = math.min(most, math.floor((r.minute - r.logged) / 4 / lanes)) end
  if r.day > 0 then most = math.min(most, math.floor((r.day - r.used) / 4 / lanes)) end
  if r.total > 0 then most = math.min(most, max_total_block, math.floor((r.total - r.spent) / 4 / lanes)) end
  return math.max(1, most)
end

local rows, paced, spaced = {}, 0, nil
for i = 1, (#KEYS - 2) / 3 do
  local k, a = 3 * i, 6 + 8 * i
  local r = {state = KEYS[k], log = KEYS[k + 1], active = KEYS[k + 2], spacing = num(ARGV[a]),
    minute = num(ARGV[a + 1]), day = num(ARGV[a + 2]), total = num(ARGV[a + 3]), bulk = num(ARGV[a + 4]), step = 0,
    known = num(ARGV[a + 5]), known_seq = num(ARGV[a + 6]), jumped = num(ARGV[a + 7]) > 0}
  local v = redis.call('HMGET', r.state, 'next', 'logged', 'date', 'used', 'tomorrow', 'yesterday', 'total',
    'epoch', 'seq', 'lost', 'factor', 'slowed', 'learned_spacing', 'learned_minute', 'learned_day', 'cells', 'lowered')
  load_limits(r, v[11], v[12], v[13], v[14], v[15])
  load_epoch(r, v[8], v[9], v[10])
  if r.spacing > 0 then
    load_second(r, v[1])
    load_cells(r, v[16])
    r.resumes = math.min(num(v[17]) + lowered_pause, now + lowered_pause) -- the clock may have stepped back
    paced, spaced = paced + 1, r
  end
  if r.minute > 0 then load_minute(r, v[2]) end
  if r.day > 0 then load_day(r, v[3], v[4], v[5], v[6]) end
  r.spent = num(v[7])
  rows[i] = r
end
for _, r in ipairs(rows) do n = math.min(n, share(r)) end
if paced > 1 then spaced = nil end -- the slots of two rows do not coincide: take the instants after both

-- Returns an iterator over free slots and their cells. Each slot is the first free one at or
-- after a target. The targets begin at `target` and are a step apart; a slot after its target
-- moves the later targets.
local function slots(r, target)
  local low, high = math.max(0, math.ceil((now - r.origin) / r.spacing)), math.floor((now + horizon - r.origin) / r.spacing)
  local i = math.max(math.floor(low / r.per_cell), r.first)
  target = math.max(target, low)
  return function()
    i = math.max(i, math.floor(target / r.per_cell))
    while i * r.per_cell <= high do
      local taken = math.max(r.cells[i] or 0, low - i * r.per_cell)
      if taken < r.per_cell then
        local slot = i * r.per_cell + taken
        if slot > high then return nil end
        target = math.max(target, i * r.per_cell) + r.step
        return slot, i
      end
      i = i + 1
    end
    return nil
  end
end

-- The longest wait of all windows with its row and window, 0 when each has room for one call.
local function longest_wait()
  local wait, row, window = 0, 0, 0
  local function full(w, i, kind)
    if w > wait then wait, row, window = w, i, kind end
  end
  for i, r in ipairs(rows) do
    if r.spacing > 0 then
      if r ~= spaced or not slots(r, 0)() then full(r.next - horizon - now, i, 1) end
      full(r.lost > 0 and r.lost + 2 * SECOND - now or 0, i, 1)
      full(r.resumes - now, i, 1)
    end
    if r.minute > 0 then
      if r.logged >= r.minute then full(r.free - now, i, 2) end
      full(r.lost > 0 and r.lost + bucket_ttl + horizon - now or 0, i, 2)
    end
    if r.day > 0 and full_day(r) then full(wait_day(r), i, 3) end
    if r.total > 0 and r.spent >= r.total then full(DAY, i, 4) end
  end
  return wait, row, window
end

-- Returns the iterator for a block. It begins with the earliest free slot; for a lane whose
-- demand is met, after the lane's last instant, if a slot within the horizon is free there.
local function start_slots(r)
  if r.saturated and last_instant > now then
    local target = math.floor((last_instant - r.origin) / r.spacing + r.step)
    if slots(r, target)() then return slots(r, target) end
  end
  return slots(r, 0)
end

-- How many permits the longer windows of a row have room for, up to n.
local function room(r)
  local most = n
  if r.minute > 0 then most = math.min(most, r.minute - r.logged) end
  if r.day > 0 then
    most = math.min(most, r.day - r.used)
    if r.late then most = math.min(most, r.day - r.tomorrow) end
    if r.early then most = math.min(most, r.day - r.yesterday) end
  end
  if r.total > 0 then most = math.min(most, r.total - r.spent) end
  return most
end

-- Reserves and returns the next instant, or returns nil if none within the horizon is free.
local function reserve(next_slot)
  if spaced then
    local slot, i = next_slot()
    if not slot then return nil end
    spaced.cells[i] = slot - i * spaced.per_cell + 1
    local at = spaced.origin + slot * spaced.spacing
    spaced.next = math.max(spaced.next, at + spaced.spacing)
    return at
  end
  local at = now
  for _, r in ipairs(rows) do
    if r.spacing > 0 then at = math.max(at, r.next) end
  end
  if at > now + horizon then return nil end
  for _, r in ipairs(rows) do
    if r.spacing > 0 then r.next = at + r.spacing end
  end
  return at
end

-- Counts the calls at some instants. Entries are only added at the end of the log: an instant
-- in an earlier bucket than the last counts in the last, and so longer than necessary.
local function count(r, instants)
  r.dirty = true
  if r.minute > 0 then
    if r.logged == 0 then r.free = (math.floor(instants[1] / bucket) + 1) * bucket + bucket_ttl end
    r.logged = r.logged + #instants
    for _, at in ipairs(instants) do
      local b, a = math.max(math.floor(at / bucket), r.last), r.added
      if #a > 0 and a[#a].bucket == b then
        a[#a].count = a[#a].count + 1
      else
        a[#a + 1] = {bucket = b, count = 1}
      end
    end
  end
  if r.day > 0 then
    r.used = r.used + #instants
    if r.late then r.tomorrow = r.tomorrow + #instants end
    if r.early then r.yesterday = r.yesterday + #instants end
  end
  if r.total > 0 then r.spent = r.spent + #instants end
end

local instants, bulk, spread = {}, 0, 0
local wait, row, window = longest_wait()
if wait == 0 then
  for _, r in ipairs(rows) do n = math.min(n, room(r)) end
  local next_slot = spaced and start_slots(spaced)
  while #instants < n do
    local at = reserve(next_slot)
    if not at then break end
    instants[#instants + 1] = at
  end
  bulk = #instants
  for _, r in ipairs(rows) do
    bulk = math.min(bulk, bulk_day(r))
    count(r, instants)
  end
  if spaced and spaced.step > 0 then spread = math.floor(spaced.step * spaced.spacing) end
end

-- The value of the field `cells`: the cells that have not passed, up to next; empty when no
-- slot before next is free.
local function cells(r)
  local ends = math.floor((r.next - r.origin) / r.spacing + 0.5) -- slots before next
  local low = math.max(0, math.ceil((now - r.origin) / r.spacing))
  local first, last = math.max(r.first, math.floor(low / r.per_cell)), math.floor((ends - 1) / r.per_cell)
  local text, holes = {int(r.origin), int(r.spacing), int(r.next), int(first)}, false
  for i = first, last do
    local taken = r.cells[i] or 0
    text[#text + 1] = int(taken)
    if math.max(taken, low - i * r.per_cell) < math.min(r.per_cell, ends - i * r.per_cell) then holes = true end
  end
  return holes and table.concat(text, ' ') or ''
end

local function save(r)
  local set = {}
  local function put(field, v) set[#set + 1] = field; set[#set + 1] = int(v) end
  put('epoch', r.epoch); put('seq', r.seq); put('lost', r.lost)
  if r.spacing > 0 then
    put('next', r.next)
    local text = r == spaced and cells(r) or ''
    if text ~= r.saved then set[#set + 1] = 'cells'; set[#set + 1] = text end
  end
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
  if #instants > 0 then put('counted', now); put('counted_seq', r.seq) end
  redis.call('HSET', r.state, unpack(set))
end

local reply = {1, now, bulk, spread}
if #instants == 0 then reply = {0, now, wait, row, window} end
for _, r in ipairs(rows) do
  if #instants > 0 then r.seq = r.seq + 1 end
  if r.dirty then save(r) end
  for _, v in ipairs({r.epoch, r.seq, r.spacing, r.minute, r.day}) do reply[#reply + 1] = v end
end
for _, at in ipairs(instants) do reply[#reply + 1] = at end
return reply
