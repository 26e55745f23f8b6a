#!lua flags=allow-oom
-- Record a number in a task's metadata that its latest attempt has counted.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  the attempt
-- ARGV[2]  the field
-- ARGV[3]  the number
--
-- It may run when Redis is full: it is short, and the log, which is written before, has what it counts.
-- Does nothing if another attempt is the latest: it has counted its own. Running it again changes nothing.

local task = KEYS[1]
if redis.call('HGET', task, 'attempt') == ARGV[1] then redis.call('HSET', task, ARGV[2], ARGV[3]) end
