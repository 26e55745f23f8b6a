#!lua flags=allow-oom
-- The renewal: the holder of the claim keeps the task for another lease.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  the claim
-- ARGV[2]  the lease, in milliseconds
-- ARGV[3]  lifetime of the metadata from now, in seconds
--
-- It may run when Redis is full: it needs no room, and tasks must not count as abandoned because others fill Redis.
-- (https://redis.io/docs/latest/develop/programmability/lua-api/#script_flags)
--
-- Answers 1, or 0 if the task is no longer this claim's: it has ended (was cancelled, for example), another claim has
-- it, or its metadata has expired.

local task = KEYS[1]
local fields = redis.call('HMGET', task, 'status', 'claim')
if fields[1] ~= 'running' or fields[2] ~= ARGV[1] then return 0 end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HSET', task, 'lease_until', string.format('%d', now + ARGV[2]))
redis.call('EXPIRE', task, ARGV[3])
return 1
