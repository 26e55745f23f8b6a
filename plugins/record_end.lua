-- How a task ended, recorded in the step that appends its end (append.lua): so the metadata never lags behind the log.
--
-- KEYS[1]  the log (list)
-- KEYS[2]  the task's metadata (hash)
-- KEYS[3]  the index of open tasks (sorted set)
-- KEYS[4]  the task's input (string)
-- ARGV[3]  the writer's claim; or empty; or `-`: the worker that ran the task is lost
-- ARGV[6]  the task's id
-- ARGV[7]  lifetime of the metadata from now, in seconds
-- ARGV[8]  the channel of cancels
--
-- A function that runs for another than the writer is told to stop. `lease_until` stays, even if the lease is over, because
-- its worker may live and not have been able to renew: until recovery knows better, the function may hold a place at its
-- limit. If none runs, or its worker is lost, it becomes 0.
-- No attempt follows an end, so nothing reads the input any more. It is kept for as long as the metadata say; 0 seconds
-- delete it.
-- A task without a limit leaves the index. One with a limit is due when its place can be released.

local FIRST = 9

local function record()
  local line = redis.call('LINDEX', KEYS[1], -1)
  local event, data = string.match(line, '^{"event":"([%w_.-]+)",.-,"data":(.*)}$')
  if event ~= 'done' and event ~= 'failed' and event ~= 'cancelled' then return end
  local task, open, task_id = KEYS[2], KEYS[3], ARGV[6]
  local fields = redis.call('HMGET', task, 'status', 'claim', 'lease_until', 'gate', 'input_ttl')
  local status, holder, lease_until = fields[1], fields[2], tonumber(fields[3]) or 0
  if not status then return redis.call('ZREM', open, task_id) end -- the metadata is lost
  if status ~= 'queued' and status ~= 'running' then return end -- recorded already

  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local runs = status == 'running' and holder ~= ARGV[3]
  if not runs or ARGV[3] == '-' then lease_until = 0 end
  redis.call('HSET', task, 'status', event, 'end', data, 'ended_at', string.format('%d', now),
    'lease_until', string.format('%d', lease_until))
  redis.call('EXPIRE', task, ARGV[7])
  if fields[5] then redis.call('EXPIRE', KEYS[4], fields[5]) end
  if runs then redis.call('PUBLISH', ARGV[8], task_id) end
  if fields[4] then
    redis.call('ZADD', open, string.format('%d', math.ceil(lease_until / 1000)), task_id)
  else
    redis.call('ZREM', open, task_id)
  end
end
