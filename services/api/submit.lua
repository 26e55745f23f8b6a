-- The note of a new task: its metadata, unless it is there. What Redis lost of it is made whole.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  lifetime of the metadata from now, in seconds
-- ARGV[2…] fields and values
--
-- Answers {1, status, 0} where it was created, {0, status, attempts begun} where it was there. Running it again changes
-- nothing.

local task = KEYS[1]
local created = redis.call('HEXISTS', task, 'function') == 0
if created then
  for i = 2, #ARGV, 2 do redis.call('HSETNX', task, ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', task, ARGV[1])
end
local noted = redis.call('HMGET', task, 'status', 'attempt')
return {created and 1 or 0, noted[1], tonumber(noted[2]) or 0}
