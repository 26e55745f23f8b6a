#!lua flags=allow-oom
-- A task leaves the index of open tasks: it is over, and its place at its limit is released. Running it again changes
-- nothing.
--
-- KEYS[1]  the index (sorted set)
-- KEYS[2]  the task's metadata (hash)
-- ARGV[1]  the task's id
--
-- Does nothing if the task is open: Redis may have lost its last second, with the end in it.

local status = redis.call('HGET', KEYS[2], 'status')
if status ~= 'queued' and status ~= 'running' then redis.call('ZREM', KEYS[1], ARGV[1]) end
