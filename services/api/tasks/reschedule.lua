#!lua flags=allow-oom
-- Recovery looks at an open task again at this time. If recovery has read that the task waits for a worker, and a worker
-- has claimed it since, the look is at the end of its lease or back-off at the latest. Its log, of earlier attempts, is
-- kept until then; how long the log of a task that is over is kept, the end has said.
-- It may run when Redis is full: it adds nothing.
--
-- KEYS[1]  the index of open tasks (sorted set)
-- KEYS[2]  the task's metadata (hash)
-- KEYS[3]  the log (list)
-- ARGV[1]  the task's id
-- ARGV[2]  the time, in seconds by the server's clock
-- ARGV[3]  lifetime of the log from that time, in seconds
-- ARGV[4]  the latest attempt, as recovery has read it; 0: none
-- ARGV[5]  what the score of a task that waits for a worker is above its time; or 0: the task does not wait

local fields = redis.call('HMGET', KEYS[2], 'status', 'lease_until', 'attempt')
local time, above, now = tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(redis.call('TIME')[1])
if fields[1] ~= 'queued' or (fields[3] or '0') ~= ARGV[4] then
  time, above = math.min(time, math.floor((tonumber(fields[2]) or 0) / 1000) + 1), 0
end
redis.call('ZADD', KEYS[1], 'XX', time + above, ARGV[1])
if fields[1] == 'queued' or fields[1] == 'running' then
  redis.call('EXPIRE', KEYS[3], math.max(0, time - now) + ARGV[3])
end
