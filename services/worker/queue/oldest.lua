-- The oldest parked tickets of an owner and a function. If there are none, the index is told: a ticket that is parked at
-- the same time is either seen here, or enters the index again.
--
-- KEYS[1]  these tickets (sorted set)
-- KEYS[2]  the index (sorted set)
-- ARGV[1]  how many tickets
-- ARGV[2]  the owner and the function, as the index has them
--
-- Answers each ticket, and when it was parked, in microseconds.

local oldest = redis.call('ZRANGE', KEYS[1], 0, ARGV[1] - 1, 'WITHSCORES')
if #oldest == 0 then
  redis.call('ZREM', KEYS[2], ARGV[2])
else
  redis.call('ZADD', KEYS[2], 'XX', oldest[2], ARGV[2])
end
return oldest
