#!lua flags=allow-oom
-- The release: queue a task again whose attempt is over and which has another attempt left. Recovery looks at it when it
-- may be claimed again.
-- It may run when Redis is full, like the renewal: it needs hardly any room.
--
-- KEYS[1]  the task's metadata (hash)
-- KEYS[2]  the index of open tasks (sorted set)
-- KEYS[3]  the log (list)
-- KEYS[4]  the task's input (string)
-- ARGV[1]  the claim to release; or empty: any claim whose lease has expired
-- ARGV[2]  milliseconds until it may be claimed again
-- ARGV[3]  lifetime of the metadata and the input from now, in seconds
-- ARGV[4]  the task's id
-- ARGV[5]  lifetime of the log from when it may be claimed again, in seconds
--
-- Answers when (ms since the epoch, by the server's clock) it may be claimed again, or 0 if there is nothing to
-- release: the task has ended, is not this claim's, is still leased, or is out of attempts. Releasing a claim is repeatable.

local task, claim = KEYS[1], ARGV[1]
local fields = redis.call('HMGET', task, 'status', 'claim', 'lease_until', 'attempt', 'attempts')
local status, holder, lease_until = fields[1], fields[2], tonumber(fields[3]) or 0

if claim ~= '' and holder ~= claim then return 0 end
if status == 'queued' and claim ~= '' then return lease_until end -- the reply to the first time was lost
if status ~= 'running' or (tonumber(fields[4]) or 0) >= (tonumber(fields[5]) or 1) then return 0 end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if claim == '' and lease_until > now then return 0 end

lease_until = now + ARGV[2]
redis.call('HSET', task, 'status', 'queued', 'queued_at', string.format('%d', now),
  'lease_until', string.format('%d', lease_until))
redis.call('EXPIRE', task, ARGV[3])
redis.call('EXPIRE', KEYS[4], ARGV[3])
redis.call('ZADD', KEYS[2], string.format('%d', math.ceil(lease_until / 1000)), ARGV[4])
redis.call('EXPIRE', KEYS[3], string.format('%d', math.ceil(ARGV[2] / 1000) + ARGV[5]))
return lease_until
