"""What runs in the server: each script is atomic, and all its keys lie in one slot.

A script checks before its first write whatever could fail after it: Lua has no way back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1


@dataclass(frozen=True)
class Script:
    """A script and the name by which the server remembers it."""

    source: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha", sha1(self.source.encode(), usedforsecurity=False).hexdigest())


_EXPECT = """
local function misfit(kinds, strings)
  for i, key in ipairs(KEYS) do
    local found, kind = redis.call('TYPE', key).ok, kinds[i] or (i > #KEYS - (strings or 0) and 'string') or 'hash'
    if found ~= 'none' and found ~= kind then
      return redis.error_reply('WRONGTYPE the key ' .. key .. ' holds a ' .. found .. ', expected a ' .. kind)
    end
  end
end
"""

COMMIT = Script(
    _EXPECT
    + """
-- KEYS: head, the four streams, the writer's answers, dead letters, who has died, redriven letters as they are now,
-- since when those do not wait, a hash a settled subscription, then a publisher's own id each.
-- ARGV: the group's number, for how many ms ids are remembered, priorities as digits, an event each; how many ids, and
-- of each the first and the last event of its append, its own, and what was given with it; then, a settlement each: the
-- number of its hash (0: none), who we are to it, and, each list after its length, fields to set, fields to delete,
-- dead letters.
local levels, at = ARGV[3], 4 + #ARGV[3]
local ids = tonumber(ARGV[at])
local wrong = misfit({'string', 'stream', 'stream', 'stream', 'stream', 'hash', 'stream', 'hash'}, ids)
if wrong then return wrong end
local known = redis.call('HGET', KEYS[6], ARGV[1])
if known then return known end
local head = tonumber(redis.call('GET', KEYS[1]) or '')
if not head then return redis.error_reply('LOST ' .. KEYS[1]) end
local answer, repeated = string.format('%.0f', head + 1), ''
local claims = {}
for i = 1, ids do
  local first = tonumber(ARGV[at + 1])
  local claim = {i, KEYS[#KEYS - ids + i], tonumber(ARGV[at + 3]), ARGV[at + 4]}
  claims[first] = claims[first] or {last = tonumber(ARGV[at + 2])}
  table.insert(claims[first], claim)
  at = at + 4
end
at = at + 1
local function stored_before(append)
  local found = ''
  for _, claim in ipairs(append) do
    local seq, given = string.match(redis.call('GET', claim[2]) or '', '^(%d+):(.*)$')
    if seq then found = found .. ' ' .. claim[1] .. ':' .. (given == claim[4] and seq or 0) end
  end
  repeated = repeated .. found
  return found ~= ''
end
local before, i = head, 1
while i <= #levels do
  local append = claims[i] or {last = i}
  if not stored_before(append) then
    for _, claim in ipairs(append) do
      local value = string.format('%.0f:', head + 1 + claim[3] - i) .. claim[4]
      redis.call('SET', claim[2], value, 'PX', ARGV[2])
    end
    for j = i, append.last do
      head = head + 1
      local stream = KEYS[2 + tonumber(string.sub(levels, j, j))]
      redis.call('XADD', stream, string.format('%.0f-0', head), 'e', ARGV[3 + j])
    end
  end
  i = append.last + 1
end
if head > before then redis.call('SET', KEYS[1], string.format('%.0f', head)) end
local function several()
  local first = at + 1
  at = first + tonumber(ARGV[at])
  return first, at - 1
end
while at <= #ARGV do
  local number, me = tonumber(ARGV[at]), ARGV[at + 1]
  at = at + 2
  local key, owner = KEYS[10 + number], number > 0 and redis.call('HGET', KEYS[10 + number], 'owner')
  if owner and owner ~= me then answer = answer .. ' ' .. number end
  local first, last = several()
  for i = first, owner == me and last or 0, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
  first, last = several()
  for i = first, owner == me and last or 0 do redis.call('HDEL', key, ARGV[i]) end
  first, last = several()
  for i = first, (not owner or owner == me) and last or 0, 2 do
    local letter, packed = ARGV[i], ARGV[i + 1]
    if redis.call('HEXISTS', KEYS[8], letter) == 0 then
      redis.call('HSET', KEYS[8], letter, redis.call('XADD', KEYS[7], '*', 'l', packed))
    elseif redis.call('HEXISTS', KEYS[10], letter) == 1 then
      local redrives, before = string.match(redis.call('HGET', KEYS[9], letter), '^(%d+:)(.*)$')
      if before ~= packed then
        redis.call('HSET', KEYS[9], letter, redrives .. packed)
        redis.call('HDEL', KEYS[10], letter)
      end
    end
  end
end
answer = answer .. ';' .. repeated
redis.call('HSET', KEYS[6], ARGV[1], answer)
redis.call('HDEL', KEYS[6], string.format('%.0f', tonumber(ARGV[1]) - 8))
redis.call('PEXPIRE', KEYS[6], 3600000)
return answer
"""
)
"""Stores a group of events and settlements, once however often it is sent, but for appends with an id that was stored
within its window. Returns the first event's seq, and the numbers of the hashes whose settlements do not count: another
router delivers those subscriptions now; then after a semicolon, for those ids, their number and the seq that they have,
0 where another event has the id."""

ADOPT = Script(
    _EXPECT
    + """
-- KEYS: head, the four streams, epoch. ARGV: the greatest seq that this router has seen, and a name for an epoch.
local wrong = misfit({'string', 'stream', 'stream', 'stream', 'stream', 'string'})
if wrong then return wrong end
redis.call('SETNX', KEYS[6], ARGV[2])
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local head = math.max(before, tonumber(ARGV[1]))
for i = 2, 5 do
  local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
  if last then head = math.max(head, tonumber(string.match(last[1], '^%d+'))) end
end
redis.call('SET', KEYS[1], string.format('%.0f', head))
return {before, head, redis.call('GET', KEYS[6])}
"""
)
"""Numbering goes on above all that was ever given, also where the server has lost it. Returns the head it had, the one
it has now, and the epoch, which is another one when the data are others."""

ATTACH = Script(
    _EXPECT
    + """
-- KEYS: names, the subscription's hash, head, the four streams.
-- ARGV: name, id, subscriber, pattern, filters, start, whether it may be updated.
local wrong = misfit({'hash', 'hash', 'string', 'stream', 'stream', 'stream', 'stream'})
if wrong then return wrong end
local name, id, subscriber, pattern, filters, start, update = unpack(ARGV)
local known = redis.call('HGET', KEYS[1], name)
if known and known ~= id then return {'other', known} end
local nextseq = tonumber(redis.call('GET', KEYS[3]) or '0') + 1
local function write(from)
  redis.call('HSET', KEYS[1], name, id)
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], 'name', name, 'subscriber', subscriber, 'pattern', pattern, 'filters', filters,
    'from', string.format('%.0f', from), 'owner', '', 'attended', redis.call('TIME')[1])
end
local stored = redis.call('HMGET', KEYS[2], 'pattern', 'filters', 'subscriber')
if not known or not stored[1] then
  local from = tonumber(start) or nextseq
  if start == 'earliest' then
    from = nextseq
    for i = 4, 7 do
      local first = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
      if first then from = math.min(from, tonumber(string.match(first[1], '^%d+'))) end
    end
  end
  write(from)
elseif stored[1] ~= pattern or stored[2] ~= filters then
  if update ~= '1' then return {'differs', stored[1], stored[2]} end
  write(nextseq)
elseif stored[3] ~= subscriber then
  redis.call('HSET', KEYS[1], name, id)
  redis.call('HSET', KEYS[2], 'subscriber', subscriber)
end
return {'ok', redis.call('HGETALL', KEYS[2])}
"""
)
"""Makes a named subscription, or finds it; returns all that is stored of it. Whatever is changed of one, `names` is
written to: that is the key whose changes routers are told of."""

TURN = Script(
    """
-- KEYS: the lease, the subscription's hash. ARGV: our token, for how many ms.
if redis.call('EXISTS', KEYS[2]) == 0 then return 'ended' end
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return redis.call('PTTL', KEYS[1]) end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'attended', redis.call('TIME')[1])
return redis.call('HGETALL', KEYS[2])
"""
)
"""Takes the turn where nobody has it: settlements with another token do not count from now on. Returns all that is
stored of the subscription, or for how many ms another router has the turn."""

RENEW = Script(
    """
-- KEYS: the lease, the subscription's hash. ARGV: our token, for how many ms.
if redis.call('HGET', KEYS[2], 'owner') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('HSET', KEYS[2], 'attended', redis.call('TIME')[1])
return 1
"""
)
"""Keeps the turn, as long as nobody else has taken it; 0 when somebody has."""

RELEASE = Script(
    """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
)
"""Ends the turn before its time."""

DETACH = Script(
    """
-- KEYS: names, the subscription's hash.
local name = redis.call('HGET', KEYS[2], 'name')
if name then redis.call('HDEL', KEYS[1], name) end
redis.call('DEL', KEYS[2])
return 1
"""
)
"""Forgets a named subscription."""

REDRIVE = Script(
    _EXPECT
    + """
-- KEYS: dead letters, who has died, redriven letters as they are now, since when those do not wait; then, a letter
-- each, the lease and the hash of its subscription.
-- ARGV: a letter each: its name, its redrives as they were seen, the time and who asks, our token, and of durable
-- subscriptions the field of the attempt and what it is.
local kinds = {'stream', 'hash', 'hash', 'hash'}
for i = 5, #KEYS, 2 do kinds[i] = 'string' end
local wrong = misfit(kinds)
if wrong then return wrong end
local given = {}
for i = 1, (#KEYS - 4) / 2 do
  local lease, key = KEYS[2 * i + 3], KEYS[2 * i + 4]
  local letter, redrives, asked, token, field, attempt = unpack(ARGV, 6 * i - 5, 6 * i)
  local since, found = redis.call('HGET', KEYS[4], letter), redis.call('HGET', KEYS[3], letter)
  if not found then
    local at = redis.call('HGET', KEYS[2], letter) or '-'
    local entry = redis.call('XRANGE', KEYS[1], at, at)[1]
    found = entry and redrives .. ':' .. entry[2][2] or ''
  end
  local count, packed = string.match(found, '^(%d+):(.*)$')
  local owner = field ~= '' and redis.call('HGET', key, 'owner')
  local ours = field == '' or owner and (owner == token or token == '' and redis.call('EXISTS', lease) == 0)
  if since == asked then
    table.insert(given, i)
  elseif not since and count == redrives and ours then
    redis.call('HSET', KEYS[3], letter, string.format('%d:', count + 1) .. packed)
    redis.call('HSET', KEYS[4], letter, asked)
    if field ~= '' then redis.call('HSET', key, 'owner', token, field, attempt) end
    table.insert(given, i)
  end
end
return given
"""
)
"""Gives dead letters back, once however often it is sent; returns the numbers of those that were. Of a subscription
that no router delivers, whoever fell silent with its turn has it no more: it would not know what it is owed now."""

TRIM = Script(
    """
-- KEYS: head, the four streams, then a hash each named subscription. ARGV: how many events are kept.
local first, holder = tonumber(redis.call('GET', KEYS[1]) or '0') - tonumber(ARGV[1]) + 1, ''
local oldest = math.huge
for i = 2, 5 do
  local one = redis.call('XRANGE', KEYS[i], '-', '+', 'COUNT', 1)[1]
  if one then oldest = math.min(oldest, tonumber(string.match(one[1], '^%d+'))) end
end
for i = 6, #KEYS do
  local fields, stored = redis.call('HGETALL', KEYS[i]), {}
  local owed = math.huge
  for j = 1, #fields, 2 do
    stored[fields[j]] = fields[j + 1]
    local attempt = string.match(fields[j], '^attempt:(%d+)$')
    if attempt and tonumber(attempt) >= oldest then owed = math.min(owed, tonumber(attempt)) end
  end
  for priority = 0, stored['from'] and 3 or -1 do
    local cursor = stored['cursor:' .. priority]
    if cursor then
      local high, distances = unpack(cjson.decode(cursor))
      owed = math.min(owed, high + 1)
      for _, distance in ipairs(distances) do owed = math.min(owed, high - distance) end
    else
      owed = math.min(owed, tonumber(stored['from']))
    end
  end
  if owed < first then first, holder = owed, stored['name'] end
end
for i = 2, 5 do redis.call('XTRIM', KEYS[i], 'MINID', '~', string.format('%.0f-0', first)) end
return {first, holder}
"""
)
"""Removes the oldest events, blocks of them, but none that a named subscription is owed (what of that is gone already
is redriven: its letter has it). Returns the first seq that is kept, and the subscription that keeps more than is asked
for."""

PICK = Script(
    """
-- KEYS: the four streams. ARGV: seqs.
local found = {}
for _, seq in ipairs(ARGV) do
  for i = 1, 4 do
    local one = redis.call('XRANGE', KEYS[i], seq, seq)[1]
    if one then table.insert(found, {i - 1, one}) break end
  end
end
return found
"""
)
"""The events of these seqs, each with its priority."""
