-- Park a ticket, in the order in which the server is asked. A ticket that is parked keeps its place.
--
-- KEYS[1]  the parked tickets of a function, or of an owner and a function (sorted set)
-- KEYS[2]  the index of the latter (sorted set); only for them
-- ARGV[1]  the ticket
-- ARGV[2]  when it was first parked, in microseconds; or 0: now
-- ARGV[3]  lifetime of the keys and of the tickets from now, in seconds
-- ARGV[4]  their owner and function, as the index has them; only with it
-- ARGV[5]  the channel of owners; only with it
--
-- Workers are told of the only ticket of an owner and a function, and of one that was parked before: a worker with room
-- has put it on the queue, and another one has read it. Of the others they know, because they know of the first.

local tickets, index, place = KEYS[1], KEYS[2], ARGV[4]
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local since = string.format('%d', ARGV[2] == '0' and now or tonumber(ARGV[2]))
-- Tickets whose tasks are not kept any more.
redis.call('ZREMRANGEBYSCORE', tickets, 0, string.format('%d', now - ARGV[3] * 1000000))
redis.call('ZADD', tickets, 'NX', since, ARGV[1])
redis.call('EXPIRE', tickets, ARGV[3])
if not index then return end

redis.call('ZADD', index, 'LT', since, place)
redis.call('EXPIRE', index, ARGV[3])
if ARGV[2] ~= '0' or redis.call('ZCARD', tickets) == 1 then redis.call('PUBLISH', ARGV[5], place) end
