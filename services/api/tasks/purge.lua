#!lua flags=allow-oom
-- Purge a task: all that Redis keeps of it goes in one step. Running it again changes nothing.
-- It may run when Redis is full: it makes room.
--
-- KEYS[1]  the task's metadata (hash)
-- KEYS[2]  the log (list)
-- KEYS[3]  the task's input (string)
-- KEYS[4]  the index of open tasks (sorted set)
-- KEYS[5]  its owner's tasks (sorted set)
-- KEYS[6]  its owner's open tasks (sorted set)
-- KEYS[7]  parked tickets of its function (sorted set)
-- KEYS[8]  parked tickets of its owner and function (sorted set)
-- KEYS[9]  the queue (stream)
-- KEYS[10] the reservation of its Idempotency-Key (string); only if it has one
-- ARGV[1]  the task's id
-- ARGV[2…] its tickets, which may be parked
--
-- A worker that has read the message finds nothing to claim. One that still runs the function loses its lease at the next
-- renewal, and the write rule accepts nothing from it.

local task_id = ARGV[1]
local message = redis.call('HGET', KEYS[1], 'message')
if message then redis.call('XDEL', KEYS[9], message) end
redis.call('UNLINK', KEYS[1], KEYS[2], KEYS[3])
for i = 4, 6 do redis.call('ZREM', KEYS[i], task_id) end
for i = 7, 8 do redis.call('ZREM', KEYS[i], unpack(ARGV, 2)) end

-- The key may have been reserved for another task since.
local reservation = KEYS[10] and redis.call('GET', KEYS[10])
if reservation and string.match(reservation, '^[^:]*') == task_id then redis.call('UNLINK', KEYS[10]) end
