#!lua flags=allow-oom
-- The release: a task whose attempt is over, though the task is not, waits for its next attempt.
-- It may run when Redis is full, like the renewal: it needs hardly any room.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  the claim to give back; or empty: whoever's it is, if the lease is over
-- ARGV[2]  milliseconds until it may be claimed again
-- ARGV[3]  lifetime of the metadata from now, in seconds
--
-- Answers when (ms since the epoch, by the server's clock) it may be claimed again, or 0 where there is nothing to
-- release: ended, not this claim's, still leased, or out of attempts. Whoever gives a
-- claim back may ask twice.

local task, claim = KEYS[1], ARGV[1]
local held = redis.call('HMGET', task, 'status', 'claim', 'lease_until', 'attempt', 'attempts')
local status, holder, lease_until = held[1], held[2], tonumber(held[3]) or 0

if claim ~= '' and holder ~= claim then return 0 end
if status == 'queued' and claim ~= '' then return lease_until end -- the reply to the first time was lost
if status ~= 'running' or tonumber(held[4]) >= (tonumber(held[5]) or 1) then return 0 end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
if claim == '' and lease_until > now then return 0 end

lease_until = now + ARGV[2]
redis.call('HSET', task, 'status', 'queued', 'queued_at', string.format('%d', now),
  'lease_until', string.format('%d', lease_until))
redis.call('EXPIRE', task, ARGV[3])
return lease_until
