#!lua flags=allow-oom
-- A task leaves the index of open tasks: it is over, and its place at its limit is released. Running it again changes
-- nothing.
--
-- KEYS[1]  the index (sorted set)
-- KEYS[2]  the task's metadata (hash)
-- KEYS[3]  the limit (sorted set); only if the task has one
-- ARGV[1]  the task's id
--
-- Does nothing if the task is open, or has its place: Redis may have lost its last second, with the end or the release in
-- it. Then recovery looks at the task again.

local fields = redis.call('HMGET', KEYS[2], 'status', 'attempt')
if fields[1] == 'queued' or fields[1] == 'running' then return end
-- The ticket of its latest attempt, or of the next one, if it was over before that began.
local attempt = tonumber(fields[2]) or 0
for number = attempt, attempt + 1 do
  if KEYS[3] and redis.call('ZSCORE', KEYS[3], string.format('%s:%d', ARGV[1], number)) then return end
end
redis.call('ZREM', KEYS[1], ARGV[1])
