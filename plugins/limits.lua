#!lua flags=allow-oom
-- The limit of a function: which tickets are admitted, and which wait. A ticket is one attempt of one task.
-- It may run when Redis is full: a released ticket makes room, and a task is recorded before its ticket is acquired.
--
-- As long as tickets wait, the limit is in the index of what is open: the process that was to admit the next one may have
-- died, and recovery then does.
--
-- KEYS[1]  the limit (sorted set): admitted tickets (negative scores), waiting tickets (by their order), starts
-- KEYS[2]  the index (sorted set)
-- KEYS[3]  the metadata (hash) of the task whose ticket is to be acquired; only with one
-- ARGV[1]  how many tickets may be admitted at once; or empty
-- ARGV[2]  how many may be admitted within a period; or empty
-- ARGV[3]  the period, in milliseconds
-- ARGV[4]  lifetime of the key from now, in seconds
-- ARGV[5]  a ticket to acquire; or empty
-- ARGV[6]  its order (above 0): when its task was created, in milliseconds
-- ARGV[7]  seconds until recovery looks at the limit, at most; or empty: the index stays as it is
-- ARGV[8]  1: this is recovery's look, and the next one may be later; or 0
-- ARGV[9]  what the limit's score in the index is above the time of its next scan
-- ARGV[10…] tickets to release, admitted or waiting
--
-- A ticket whose attempt is over is not acquired: the call may come late, after the task was cancelled or Redis has lost it.
--
-- Answers {milliseconds until the rate admits the next ticket, or -1 if none waits for that; how many tickets wait;
-- {the tickets that were admitted}}. The call is repeatable. Acquiring an admitted ticket answers it again. Releasing an
-- absent ticket answers every admitted ticket that has not started, because an earlier reply may have been lost.

local key, ttl, ticket = KEYS[1], ARGV[4], ARGV[5]
local concurrency, starts, period = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

-- Scores. Admitted tickets: the time of admission, negated, until the attempt starts; then STARTED. Starts: their time,
-- above the order of every waiting ticket.
local STARTED, STARTS = '-1', 100000000000000
-- A call does not block Redis for long: the next one admits more.
local MAX_ADMITTED = 100

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

local function number(value) return string.format('%d', value) end
local function count(from, to) return redis.call('ZCOUNT', key, from, to) end

local released, admitted = 0, {}
for i = 10, #ARGV do released = released + redis.call('ZREM', key, ARGV[i]) end

local function may_run()
  local fields = redis.call('HMGET', KEYS[3], 'status', 'attempt')
  local attempt, of = tonumber(fields[2]) or 0, tonumber(string.match(ticket, '%d+$'))
  return fields[1] == 'queued' and attempt < of or fields[1] == 'running' and attempt <= of
end

if ticket ~= '' and may_run() then
  redis.call('ZADD', key, 'NX', ARGV[6], ticket)
  if tonumber(redis.call('ZSCORE', key, ticket)) < 0 then admitted = {ticket} end
elseif #ARGV > 9 and released == 0 then
  admitted = redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. STARTED)
end

-- A start counts as long as it is younger than a period, to the millisecond on the safe side.
redis.call('ZREMRANGEBYSCORE', key, number(STARTS), number(STARTS + now - period))
local function until_next()
  if not starts then return 0 end
  local last = redis.call('ZREVRANGEBYSCORE', key, '+inf', number(STARTS), 'WITHSCORES', 'LIMIT', starts - 1, 1)[2]
  return last and math.max(0, tonumber(last) - STARTS + period - now) or 0
end

local wait = 0
for _ = 1, MAX_ADMITTED do
  local first = redis.call('ZRANGEBYSCORE', key, '(0', '(' .. number(STARTS), 'LIMIT', 0, 1)[1]
  wait = -1
  if not first or (concurrency and count('-inf', '(0') >= concurrency) then break end
  wait = until_next()
  if wait > 0 then break end
  redis.call('ZADD', key, number(-now), first)
  if starts then redis.call('ZADD', key, number(STARTS + now + 1), first .. '@' .. number(now)) end
  admitted[#admitted + 1] = first
end

local waiting = count('(0', '(' .. number(STARTS))
local function schedule_scan(open, at_most, is_scan)
  if is_scan then redis.call('ZREM', open, key) end
  if waiting == 0 then return end
  local seconds = wait < 0 and at_most or math.min(math.floor(wait / 1000) + 2, at_most)
  redis.call('ZADD', open, 'LT', clock[1] + seconds + ARGV[9], key)
end
if ARGV[7] ~= '' then schedule_scan(KEYS[2], tonumber(ARGV[7]), ARGV[8] == '1') end

redis.call('EXPIRE', key, ttl)
return {wait, waiting, admitted}
