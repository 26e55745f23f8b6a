-- The claim: one delivery of a task's id takes the task, all others are told no.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  the claim: a name for this delivery, so that a retry whose reply was lost finds its own claim again
-- ARGV[2]  the worker's name
-- ARGV[3]  the lease, in milliseconds
-- ARGV[4]  the attempt that its gate has let in; or 0
-- ARGV[5]  the version of its function that this worker has; or nothing
--
-- Answers: {attempt, attempts, function, input, lease_until, gate}, or an empty list where there is nothing to run:
-- unknown or ended, held by another lease, in its back-off, out of attempts, or not let in for this attempt. Lease times
-- are the server's own clock: workers' clocks need not agree.

local task, claim = KEYS[1], ARGV[1]
local held = redis.call('HMGET', task, 'status', 'claim', 'lease_until', 'attempt', 'attempts', 'function', 'input',
  'gate')
local status, holder, lease_until = held[1], held[2], tonumber(held[3]) or 0
local attempt, attempts = tonumber(held[4]) or 0, tonumber(held[5]) or 1

if status ~= 'queued' and status ~= 'running' then return {} end

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

if holder ~= claim then
  -- From a worker that does not renew only the release takes a task: that one knows whether Redis had been away.
  if status ~= 'queued' or lease_until > now or attempt >= attempts then return {} end
  attempt = attempt + 1
  -- The message may be an earlier attempt's, which was queued twice.
  if held[8] and attempt ~= tonumber(ARGV[4]) then return {} end
end

lease_until = string.format('%d', now + ARGV[3])
redis.call('HSET', task, 'status', 'running', 'claim', claim, 'worker', ARGV[2], 'attempt', attempt,
  'started_at', string.format('%d', now), 'lease_until', lease_until, 'ran_version', ARGV[5])
return {tostring(attempt), tostring(attempts), held[6], held[7], lease_until, held[8] or ''}
