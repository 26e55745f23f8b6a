-- Unpark a ticket: its message is on the queue again. Of several workers, one does so.
--
-- KEYS[1]  the parked tickets of a function, or of an owner and a function (sorted set)
-- KEYS[2]  the queue (stream)
-- KEYS[3]  the task's metadata (hash)
-- ARGV[1]  the ticket
-- ARGV[2]  the field of the message
-- ARGV[3]  the message
--
-- Answers 1, or 0 if the ticket is not parked any more.
--
-- The message that a worker has parked may still be on the queue: that worker is about to acknowledge it. So this one is
-- added in any case.

local task = KEYS[3]
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
local entry = redis.call('XADD', KEYS[2], '*', ARGV[2], ARGV[3])
if redis.call('HGET', task, 'status') == 'queued' then redis.call('HSET', task, 'message', entry) end
return 1
