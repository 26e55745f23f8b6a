-- The note of a new task: its metadata, unless it is there.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  lifetime of the metadata from now, in seconds
-- ARGV[2…] fields and values
--
-- Answers {1, status} where it was created, {0, status} where it was there. Running it again changes nothing.

local task = KEYS[1]
if redis.call('EXISTS', task) == 1 then return {0, redis.call('HGET', task, 'status')} end
redis.call('HSET', task, unpack(ARGV, 2))
redis.call('EXPIRE', task, ARGV[1])
return {1, redis.call('HGET', task, 'status')}
