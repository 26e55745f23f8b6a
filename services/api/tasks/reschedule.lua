#!lua flags=allow-oom
-- Recovery looks at an open task again at this time, and at the latest when the lease of the worker that runs it is over.
-- Its log, of earlier attempts, is kept until then.
-- It may run when Redis is full: it adds nothing. In one step: a worker may have claimed it since recovery has read it, and die.
--
-- KEYS[1]  the index of open tasks (sorted set)
-- KEYS[2]  the task's metadata (hash)
-- KEYS[3]  the log (list)
-- ARGV[1]  the task's id
-- ARGV[2]  the time, in seconds by the server's clock
-- ARGV[3]  lifetime of the log from that time, in seconds

local fields = redis.call('HMGET', KEYS[2], 'status', 'lease_until')
local time, now = tonumber(ARGV[2]), tonumber(redis.call('TIME')[1])
if fields[1] == 'running' then time = math.min(time, math.floor(fields[2] / 1000) + 1) end
redis.call('ZADD', KEYS[1], 'XX', time, ARGV[1])
redis.call('EXPIRE', KEYS[3], math.max(0, time - now) + ARGV[3])
