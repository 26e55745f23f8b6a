-- The claim: one delivery of a task's id gets the task, all others are refused. Recovery looks at the task when its lease
-- is over.
--
-- KEYS[1]  the task's metadata (hash)
-- KEYS[2]  the index of open tasks (sorted set)
-- KEYS[3]  the task's input (string); a task of an older release has it in the metadata
-- ARGV[1]  the claim: a name for this delivery, so that a retry whose reply was lost finds its own claim again
-- ARGV[2]  the worker's name
-- ARGV[3]  the lease, in milliseconds
-- ARGV[4]  the attempt that its limit has admitted; or 0
-- ARGV[5]  the version of its function that this worker has; or nothing
-- ARGV[6]  the task's id
--
-- Answers {attempt, attempts, function, input or nil if it is lost, lease_until, limit key, owner}, or an empty list if
-- there is nothing to run: the task is unknown, has ended, is leased by another worker, in its back-off, out of attempts,
-- or not admitted for this attempt. Lease times are by the server's clock: workers' clocks need not agree.

local task, claim = KEYS[1], ARGV[1]
local fields = redis.call('HMGET', task, 'status', 'claim', 'lease_until', 'attempt', 'attempts', 'function', 'input',
  'gate', 'owner')
local status, holder, lease_until = fields[1], fields[2], tonumber(fields[3]) or 0
local attempt, attempts = tonumber(fields[4]) or 0, tonumber(fields[5]) or 1

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

if status ~= 'queued' and status ~= 'running' then return {} end

if holder == claim then
  if status ~= 'running' then return {} end -- executed late: its attempt has been released
-- Only the release takes a task from a worker that does not renew: its caller knows whether Redis was unreachable.
-- A message that names another attempt is an earlier attempt's, which was queued twice.
elseif status ~= 'queued' or lease_until > now or attempt >= attempts
  or (fields[8] and attempt + 1 ~= tonumber(ARGV[4])) then
  return {}
else
  attempt = attempt + 1
end

lease_until = now + ARGV[3]
redis.call('HSET', task, 'status', 'running', 'claim', claim, 'worker', ARGV[2], 'attempt', attempt,
  'started_at', string.format('%d', now), 'lease_until', string.format('%d', lease_until), 'ran_version', ARGV[5])
redis.call('HDEL', task, 'message')
redis.call('ZADD', KEYS[2], 'LT', string.format('%d', math.floor(lease_until / 1000) + 1), ARGV[6])
local input = redis.call('GET', KEYS[3]) or fields[7]
return {tostring(attempt), tostring(attempts), fields[6], input, string.format('%d', lease_until), fields[8] or '', fields[9] or ''}
