-- A queued task has its message: on the queue, or parked. This step adds it if it is at neither place. Running it again
-- changes nothing.
--
-- KEYS[1]  the queue (stream)
-- KEYS[2]  the task's metadata (hash)
-- KEYS[3]  the parked tickets of its function (sorted set)
-- KEYS[4]  the index of the tickets that are parked by owner and function (sorted set), whose name begins theirs
-- ARGV[1]  the field of the message
-- ARGV[2]  the message
-- ARGV[3]  its ticket
-- ARGV[4]  lifetime of the index from now, in seconds, if it has lost an owner and a function
--
-- The metadata says which entry of the queue has the message. The entry is gone when a worker has acknowledged it, or
-- when it was lost.
-- Only a message that is added needs memory. (No flags: Redis refuses the first command that needs it.)

local queue, task = KEYS[1], KEYS[2]
local fields = redis.call('HMGET', task, 'status', 'message', 'owner', 'function')
local status, entry = fields[1], fields[2]
if status ~= 'queued' then return end
if entry and #redis.call('XRANGE', queue, entry, entry) > 0 then return end
if redis.call('ZSCORE', KEYS[3], ARGV[3]) then return end

-- The owner is the metadata's: not every caller knows it.
local function parked_by_owner()
  local index, place = KEYS[4], (fields[3] or '') .. ':' .. (fields[4] or '')
  local since = redis.call('ZSCORE', index .. ':' .. place, ARGV[3])
  if since and not redis.call('ZSCORE', index, place) then
    redis.call('ZADD', index, since, place)
    redis.call('EXPIRE', index, ARGV[4])
  end
  return since
end
if parked_by_owner() then return end
redis.call('HSET', task, 'message', redis.call('XADD', queue, '*', ARGV[1], ARGV[2]))
