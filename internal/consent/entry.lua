-- What all scripts share: the form of an entry, words of a letter and a number, separated by spaces.
--   u changed  n credits  a accepted  o turned off  x declined  z met 43101  (times: s since 1970)
--   k refusals in a row  l credits that the first of them took  f 1: there are uncounted credits
--   g<time><p|r|b><id>  an acceptance of the last hour: a push, a report, or both
--   r<expires>:<id>     a reservation
--   m<time>[u]:<id>     a message that was accepted without a known credit; u: its push has come
--
-- KEYS[1] the entries of a person. ARGV[1] the template, [2] now, [3] how long the entries are kept
-- and [4] a lone marker (s), [5] the skew of the clocks (s); further ones are those of the script.
local now, skew = tonumber(ARGV[2]), tonumber(ARGV[5])
local existed = redis.call("EXISTS", KEYS[1]) == 1
local text = redis.call("HGET", KEYS[1], ARGV[1]) or ""
local e = {n = 0, a = 0, o = 0, x = 0, z = 0, k = 0, l = 0, f = 0}
local grants, reservations, markers = {}, {}, {}
for word in string.gmatch(text, "%S+") do
	local tag, at, rest = string.match(word, "^(%a)(%d+)(.*)$")
	if tag == "g" then
		table.insert(grants, {at = tonumber(at), src = string.sub(rest, 1, 1), id = string.sub(rest, 2)})
	elseif tag == "r" then
		table.insert(reservations, {at = tonumber(at), id = string.sub(rest, 2)})
	elseif tag == "m" then
		local used, id = string.match(rest, "^(u?):(.*)$")
		table.insert(markers, {at = tonumber(at), used = used == "u", id = id})
	elseif tag and e[tag] then
		e[tag] = tonumber(at)
	end
end

local function known()
	return e.a > 0 or e.o > 0 or e.x > 0 or e.z > 0 or e.f > 0
end

-- take removes a reservation, and returns whether there was one.
local function take(id)
	for i, r in ipairs(reservations) do
		if r.id == id then
			table.remove(reservations, i)
			return true
		end
	end
	return false
end

-- drop removes the first values of a list until it has only so many.
local function drop(list, most)
	while #list > math.max(most, 0) do
		table.remove(list, 1)
	end
end

-- save writes the entry.
local function save()
	local words = {"u" .. string.format("%d", now)}
	for _, tag in ipairs({"n", "a", "o", "x", "z", "k", "l", "f"}) do
		if e[tag] > 0 then
			table.insert(words, tag .. string.format("%d", e[tag]))
		end
	end
	drop(grants, 8)
	for _, g in ipairs(grants) do
		if g.at > now - 3600 then
			table.insert(words, string.format("g%d%s%s", g.at, g.src, g.id))
		end
	end
	drop(reservations, e.n)
	for _, r in ipairs(reservations) do
		table.insert(words, string.format("r%d:%s", r.at, r.id))
	end
	drop(markers, 4)
	for _, m in ipairs(markers) do
		if m.at > now - tonumber(ARGV[4]) then
			table.insert(words, string.format("m%d%s:%s", m.at, m.used and "u" or "", m.id))
		end
	end
	redis.call("HSET", KEYS[1], ARGV[1], table.concat(words, " "))
	if known() then
		redis.call("EXPIRE", KEYS[1], ARGV[3])
	elseif not existed then
		redis.call("EXPIRE", KEYS[1], ARGV[4])
	end
end
