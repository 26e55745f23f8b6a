-- Park a ticket, in the order in which the server is asked. A ticket that is parked keeps its place.
--
-- KEYS[1]  the parked tickets of a function (sorted set)
-- ARGV[1]  the ticket
-- ARGV[2]  when it was first parked, in microseconds; or 0: now
-- ARGV[3]  lifetime of the key and of its tickets from now, in seconds

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local since = ARGV[2] == '0' and now or tonumber(ARGV[2])
-- Tickets whose tasks are not kept any more.
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, string.format('%d', now - ARGV[3] * 1000000))
redis.call('ZADD', KEYS[1], 'NX', string.format('%d', since), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[3])
