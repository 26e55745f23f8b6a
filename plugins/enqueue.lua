-- A queued task has its message: on the queue, or parked. This step adds it if it is at neither place. Running it again
-- changes nothing.
--
-- KEYS[1]  the queue (stream)
-- KEYS[2]  the task's metadata (hash)
-- KEYS[3]  the parked tickets of its function (sorted set)
-- ARGV[1]  the field of the message
-- ARGV[2]  the message
-- ARGV[3]  its ticket
--
-- The metadata says which entry of the queue has the message. The entry is gone when a worker has acknowledged it, or
-- when it was lost.
-- Only a message that is added needs memory. (No flags: Redis refuses the first command that needs it.)

local queue, task = KEYS[1], KEYS[2]
local fields = redis.call('HMGET', task, 'status', 'message')
local status, entry = fields[1], fields[2]
if status ~= 'queued' then return end
if entry and #redis.call('XRANGE', queue, entry, entry) > 0 then return end
if redis.call('ZSCORE', KEYS[3], ARGV[3]) then return end
redis.call('HSET', task, 'message', redis.call('XADD', queue, '*', ARGV[1], ARGV[2]))
