#!lua flags=allow-oom
-- The gate: which tickets of a function with limits are in, and which wait. A ticket is one attempt of one task.
-- It may run when Redis is full: who is let go makes room, and who comes has been noted before.
--
-- KEYS[1]  the gate (sorted set): tickets that are in (negative scores), tickets that wait (by their order), starts
-- ARGV[1]  how many may be in at once; or empty
-- ARGV[2]  how many may be let in within a period; or empty
-- ARGV[3]  the period, in milliseconds
-- ARGV[4]  lifetime of the gate from now, in seconds
-- ARGV[5]  a ticket that comes; or empty
-- ARGV[6]  its order (above 0): when its task was created, in milliseconds
-- ARGV[7…] tickets that go, wherever they are
--
-- Answers {milliseconds until the rate lets the next one in, or -1 where nobody waits for that; how many wait; {the
-- tickets that were let in}}. It may be asked again: a ticket that came before and is in is told so; and a ticket that
-- has gone before is told of all that are in and have not begun, as it may not have heard of those it made room for.

local gate, ttl, comes = KEYS[1], ARGV[4], ARGV[5]
local room, starts, period = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- Scores. In: when it was let in, negated, until it begins; then BEGUN. Starts: when they were, behind all who wait.
local BEGUN, STARTS = '-1', 100000000000000
-- One call does not keep Redis for long: more are let in by the next.
local MOST = 100

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function number(value) return string.format('%d', value) end
local function count(from, to) return redis.call('ZCOUNT', gate, from, to) end

local gone, admitted = 0, {}
for i = 7, #ARGV do gone = gone + redis.call('ZREM', gate, ARGV[i]) end
if comes ~= '' then
  redis.call('ZADD', gate, 'NX', ARGV[6], comes)
  if tonumber(redis.call('ZSCORE', gate, comes)) < 0 then admitted = {comes} end
elseif #ARGV > 6 and gone == 0 then
  admitted = redis.call('ZRANGEBYSCORE', gate, '-inf', '(' .. BEGUN)
end

-- A start counts as long as it is younger than a period, to the millisecond on the safe side.
redis.call('ZREMRANGEBYSCORE', gate, number(STARTS), number(STARTS + now - period))
local function until_next()
  if not starts then return 0 end
  local last = redis.call('ZREVRANGEBYSCORE', gate, '+inf', number(STARTS), 'WITHSCORES', 'LIMIT', starts - 1, 1)[2]
  return last and math.max(0, tonumber(last) - STARTS + period - now) or 0
end

local wait = 0
for _ = 1, MOST do
  local first = redis.call('ZRANGEBYSCORE', gate, '(0', '(' .. number(STARTS), 'LIMIT', 0, 1)[1]
  wait = -1
  if not first or (room and count('-inf', '(0') >= room) then break end
  wait = until_next()
  if wait > 0 then break end
  redis.call('ZADD', gate, number(-now), first)
  if starts then redis.call('ZADD', gate, number(STARTS + now + 1), first .. '@' .. number(now)) end
  admitted[#admitted + 1] = first
end

redis.call('EXPIRE', gate, ttl)
return {wait, count('(0', '(' .. number(STARTS)), admitted}
