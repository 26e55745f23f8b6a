-- Create a task: its metadata, its input, its place in the index of open tasks and in its owner's list, and its message on
-- the queue.
-- All or nothing, once: running it again changes nothing.
--
-- KEYS[1]  the task's metadata (hash)
-- KEYS[2]  the index of open tasks (sorted set)
-- KEYS[3]  its owner's tasks (sorted set)
-- KEYS[4]  the queue (stream); only with a message
-- KEYS[5]  the task's input (string)
-- ARGV[1]  the task's id
-- ARGV[2]  lifetime of the metadata, the input and the list from now, in seconds
-- ARGV[3]  seconds until recovery looks at the task, if no worker has claimed it
-- ARGV[4]  the field of the message
-- ARGV[5]  the message; or empty: the task has a limit, which enqueues it
-- ARGV[6]  the input
-- ARGV[7…] the other fields of the metadata, and their values

local task, open, owned = KEYS[1], KEYS[2], KEYS[3]
local task_id, ttl = ARGV[1], ARGV[2]
if redis.call('HEXISTS', task, 'function') == 1 then return end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function number(value) return string.format('%d', value) end

-- First: if the queue is no queue, nothing is written.
local message = ARGV[5] ~= '' and redis.call('XADD', KEYS[4], '*', ARGV[4], ARGV[5])
redis.call('ZADD', open, 'NX', clock[1] + ARGV[3], task_id)
redis.call('ZADD', owned, 'NX', number(now), task_id)
redis.call('ZREMRANGEBYSCORE', owned, 0, number(now - ttl * 1000))
redis.call('EXPIRE', owned, ttl)

-- If Redis has evicted the metadata and lost a part of it, the rest stays.
redis.call('SET', KEYS[5], ARGV[6], 'EX', ttl, 'NX')
for i = 7, #ARGV, 2 do redis.call('HSETNX', task, ARGV[i], ARGV[i + 1]) end
redis.call('HSETNX', task, 'created_at', number(now))
redis.call('HSETNX', task, 'queued_at', number(now))
if message then redis.call('HSET', task, 'message', message) end
redis.call('EXPIRE', task, ttl)
