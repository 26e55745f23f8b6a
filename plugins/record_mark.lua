-- The mark of an attempt: the step that appends it (append.lua) also counts the entries that are no chunks of this
-- attempt's, which are this mark and what the attempt does not keep.
--
-- KEYS[1]  the log (list)
-- KEYS[2]  the task's metadata (hash)

local FIRST = 6

local function record(repeated)
  if repeated then return end
  if string.find(ARGV[FIRST], '"keeps":true}}$') then
    redis.call('HINCRBY', KEYS[2], 'uncounted', 1)
  else
    redis.call('HSET', KEYS[2], 'uncounted', redis.call('LLEN', KEYS[1]))
  end
end
