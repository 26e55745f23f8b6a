#!lua flags=allow-oom
-- The renewal: the holder of the claim keeps the task for another lease.
--
-- KEYS[1]  the task's metadata (hash)
-- KEYS[2]  the task's input (string)
-- KEYS[3]  the log (list)
-- ARGV[1]  the claim
-- ARGV[2]  the lease, in milliseconds
-- ARGV[3]  lifetime of the metadata and the input from now, in seconds
-- ARGV[4]  lifetime of the log from now, in seconds
--
-- It may run when Redis is full: it needs no room, and tasks must not count as abandoned because others fill Redis.
-- (https://redis.io/docs/latest/develop/programmability/lua-api/#script_flags)
--
-- Answers 1, or 0 if the task is no longer this claim's: it has ended (was cancelled, for example), another claim has
-- it, or its metadata has expired. If it has ended, the function may clean up for another lease, and keeps its place at
-- its limit meanwhile; the step that ended the task has said how long its input and its log are kept.

local task = KEYS[1]
local fields = redis.call('HMGET', task, 'status', 'claim', 'lease_until')
local status, holder, lease_until = fields[1], fields[2], fields[3]
if holder ~= ARGV[1] or status == 'queued' then return 0 end
if status ~= 'running' and lease_until == '0' then return 0 end -- over: this worker has written the end itself

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', task, 'lease_until', string.format('%d', now + ARGV[2]))
redis.call('EXPIRE', task, ARGV[3])
if status ~= 'running' then return 0 end
redis.call('EXPIRE', KEYS[2], ARGV[3])
redis.call('EXPIRE', KEYS[3], ARGV[4])
return 1
