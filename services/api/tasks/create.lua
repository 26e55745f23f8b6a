-- Create a task: its metadata, its input, its place in the index of open tasks and in its owner's list, its message on
-- the queue, and the reservation of its Idempotency-Key.
-- All or nothing, once: running it again changes nothing.
--
-- KEYS[1]  the task's metadata (hash)
-- KEYS[2]  the index of open tasks (sorted set)
-- KEYS[3]  its owner's tasks (sorted set)
-- KEYS[4]  the queue (stream); only with a message
-- KEYS[5]  the task's input (string)
-- KEYS[6]  its owner's open tasks (sorted set)
-- KEYS[7]  there while those, if they are many, were looked at within a second (string)
-- KEYS[8]  the reservation of its key (string); only if it has one
-- KEYS[8 or 9]  its limit (sorted set); only if it has one. The ticket of its first attempt waits there from now on, so
--          that the next request counts it; the limit admits it when it is acquired, or earlier
-- ARGV[1]  the task's id
-- ARGV[2]  lifetime of the metadata, the input and the list from now, in seconds
-- ARGV[3]  its score in the index, above the time: of a task that waits, and in how many seconds recovery looks at it
-- ARGV[4]  the field of the message
-- ARGV[5]  the message; or empty: the task has a limit, which enqueues it
-- ARGV[6]  the input
-- ARGV[7]  how many open tasks its owner may have
-- ARGV[8]  how many there may be of all owners
-- ARGV[9]  how many may wait at its limit
-- ARGV[10] the reservation's value; or empty: the task has no key
-- ARGV[11] lifetime of the reservation from now, in seconds
-- ARGV[12…] the other fields of the metadata, and their values
--
-- Answers nothing; or why nothing is written: `owner`, `all` or `limit`, that quota is used up; or {value}, the key is
-- reserved with this other value.

local task, open, owned = KEYS[1], KEYS[2], KEYS[3]
local task_id, ttl = ARGV[1], ARGV[2]
local wanted = ARGV[10] ~= '' and ARGV[10]
local reserved = wanted and redis.call('GET', KEYS[8])
if reserved and reserved ~= wanted then return {reserved} end
if redis.call('HEXISTS', task, 'function') == 1 then return end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function number(value) return string.format('%d', value) end

-- Tasks end in many places, and none of them has to keep this set: the tasks in it that have left the index are removed
-- here, when the owner seems to have its quota. Not at every request if there are many: that would cost more than the task.
local mine, MANY = KEYS[6], 100
local function remove_closed()
  local ids = redis.call('ZRANGE', mine, 0, -1)
  for first = 1, #ids, 1000 do
    local last = math.min(first + 999, #ids)
    local due = redis.call('ZMSCORE', open, unpack(ids, first, last))
    for i = first, last do
      if not due[i - first + 1] then redis.call('ZREM', mine, ids[i]) end
    end
  end
end

local function owner_has(most)
  local has = redis.call('ZCARD', mine)
  if has < most then return false end
  if has <= MANY or redis.call('SET', KEYS[7], 1, 'NX', 'EX', 1) then remove_closed() end
  return redis.call('ZCARD', mine) >= most
end

-- The scores of waiting tickets (limits.lua).
local limit = KEYS[wanted and 9 or 8]
local function limit_has(most)
  return limit and redis.call('ZCOUNT', limit, '(0', '(100000000000000') >= most
end

if owner_has(tonumber(ARGV[7])) then return 'owner' end
if redis.call('ZCARD', open) >= tonumber(ARGV[8]) then return 'all' end
if limit_has(tonumber(ARGV[9])) then return 'limit' end

-- First: if the queue is no queue, nothing is written.
local message = ARGV[5] ~= '' and redis.call('XADD', KEYS[4], '*', ARGV[4], ARGV[5])
if wanted and not reserved then redis.call('SET', KEYS[8], wanted, 'EX', ARGV[11]) end
redis.call('ZADD', open, 'NX', clock[1] + ARGV[3], task_id)
redis.call('ZADD', owned, 'NX', number(now), task_id)
redis.call('ZADD', mine, 'NX', number(now), task_id)
redis.call('EXPIRE', mine, ttl)
redis.call('ZREMRANGEBYSCORE', owned, 0, number(now - ttl * 1000))
redis.call('EXPIRE', owned, ttl)
if limit then
  redis.call('ZADD', limit, 'NX', number(now), task_id .. ':1')
  redis.call('EXPIRE', limit, ttl)
end

-- If Redis has evicted the metadata and lost a part of it, the rest stays.
redis.call('SET', KEYS[5], ARGV[6], 'EX', ttl, 'NX')
for i = 12, #ARGV, 2 do redis.call('HSETNX', task, ARGV[i], ARGV[i + 1]) end
redis.call('HSETNX', task, 'created_at', number(now))
redis.call('HSETNX', task, 'queued_at', number(now))
if message then redis.call('HSET', task, 'message', message) end
redis.call('EXPIRE', task, ttl)
