-- Create the metadata of a new task, unless it is there. If Redis has lost a part of it, write the missing fields.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  lifetime of the metadata from now, in seconds
-- ARGV[2…] fields and values
--
-- Running it again changes nothing.

local task = KEYS[1]
if redis.call('HEXISTS', task, 'function') == 0 then
  for i = 2, #ARGV, 2 do redis.call('HSETNX', task, ARGV[i], ARGV[i + 1]) end
  redis.call('EXPIRE', task, ARGV[1])
end
