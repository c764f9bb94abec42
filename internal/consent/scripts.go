package consent

import (
	_ "embed" // what the scripts share

	"github.com/redis/go-redis/v9"
)

//go:embed entry.lua
var entryLua string

// reserveScript reserves a credit where one is free, and returns 1 or 0 for whether it did, and the
// entry without this reservation.
//
// ARGV[6] the reservation, [7] when it expires
var reserveScript = redis.NewScript(entryLua + `
local mine = take(ARGV[6])
local held, before = 0, {}
for _, r in ipairs(reservations) do
	table.insert(before, string.format("r%d:", r.at))
	if r.at > now then
		held = held + 1
	end
end
local seen = string.gsub(text, "%s*r%d+:%S*", "") .. " " .. table.concat(before, " ")
if e.n - held <= 0 or e.o > e.a then
	if mine then
		save()
	end
	return {0, seen}
end
table.insert(reservations, {at = tonumber(ARGV[7]), id = ARGV[6]})
save()
return {1, seen}
`)

// commitScript takes what a message cost that WeChat has accepted. A repeated call changes nothing.
//
// ARGV[6] the reservation, [7] when the call began, [8] a Basis
var commitScript = redis.NewScript(entryLua + `
if take(ARGV[6]) then
	e.n = math.max(e.n - 1, 0)
	save()
elseif ARGV[8] == "wrong" then
	if e.k > 0 then
		e.n = math.max(e.n, e.l - 1)
	end
	e.f, e.k, e.l, e.z, e.x = 1, 0, 0, 0, 0
	if e.o > e.a then
		e.o = 0
	end
	save()
elseif ARGV[8] == "early" then
	for _, m in ipairs(markers) do
		if m.id == ARGV[6] then
			return 0
		end
	end
	local marker = {at = tonumber(ARGV[7]), used = false, id = ARGV[6]}
	local last = grants[#grants]
	if e.n > 0 and last and last.at <= marker.at + skew then
		e.n, marker.used = e.n - 1, true -- its push came during the call
	end
	table.insert(markers, marker)
	save()
end
return 1
`)

// releaseScript gives a reservation back.
//
// ARGV[6] the reservation
var releaseScript = redis.NewScript(entryLua + `
if take(ARGV[6]) then
	save()
end
return 1
`)

// zeroScript notes that a call met 43101: there were no credits but those of acceptances after its
// begin, unless the person has turned messages off, which explains the answer. A repeated call changes
// nothing.
//
// ARGV[6] the reservation, [7] when the call began
var zeroScript = redis.NewScript(entryLua + `
take(ARGV[6])
local began, kept = tonumber(ARGV[7]), 0
for _, g in ipairs(grants) do
	if g.at + skew >= began then
		kept = kept + 1
	end
end
kept = math.min(kept, e.n)
if e.o > e.a then
	kept = e.n
end
if e.k == 0 and began > e.z + 60 then
	e.l = 0
end
e.l = e.l + e.n - kept
if began > e.z then
	if kept > 0 and e.o <= e.a then
		e.k = 0
	elseif e.k == 0 then
		e.k = 1
	elseif began - e.z >= 12 * 3600 then
		e.k = math.min(e.k + 1, 9)
	end
	e.z = began
end
e.n = kept
if kept == 0 then
	e.f = 0
end
save()
return 1
`)

// grantScript adds an acceptance.
//
// ARGV[6] when the person accepted, [7] "p" for a push or "r" for a report, [8] an id of the report, or
// "", [9] the credits: 1, or 0 where the person only turned messages on again
var grantScript = redis.NewScript(entryLua + `
local at, src, id, credit = math.min(tonumber(ARGV[6]), now), ARGV[7], ARGV[8], tonumber(ARGV[9])
for _, g in ipairs(grants) do
	if src == "p" and g.src ~= "r" and g.at == at or src == "r" and id ~= "" and g.id == id then
		return 0 -- known
	end
end
if credit > 0 then
	for _, g in ipairs(grants) do
		if g.src ~= src and g.src ~= "b" and math.abs(g.at - at) <= 60 then
			g.src = "b" -- the same acceptance, by the other way
			if src == "p" then
				g.at = at
			else
				g.id = id
			end
			e.a = math.max(e.a, at)
			save()
			return 0
		end
	end
	if src == "r" and at <= now - 3600 then -- else its repetition would not be known
		table.insert(grants, {at = now, src = "b", id = id})
	else
		table.insert(grants, {at = at, src = src, id = id})
	end
end
if credit == 0 and not known() then
	return 0
end
if credit == 0 and e.a == 0 then
	e.f = 1 -- credits from before the first push may be left
end
e.a = math.max(e.a, at)
if credit > 0 and at + skew >= e.z then
	e.k = 0
	for _, m in ipairs(markers) do
		if credit > 0 and not m.used and at <= m.at + skew then
			credit, m.used = 0, true -- spent before its push came
		end
	end
	e.n = e.n + credit
end
save()
return 1
`)

// refuseScript notes that a person refused. Repeated calls change nothing. Where it explains a 43101,
// the credits that this has taken come back.
//
// ARGV[6] when, [7] "x" in a dialogue, or "o" in the settings
var refuseScript = redis.NewScript(entryLua + `
local at = math.min(tonumber(ARGV[6]), now)
if at > e[ARGV[7]] then
	e[ARGV[7]] = at
	if ARGV[7] == "o" and at <= e.z + 60 then -- a call is over within a minute
		e.n, e.l = e.n + e.l, 0
	end
	save()
end
return 1
`)
