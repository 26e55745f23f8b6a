-- A consumer leaves its group. KEYS[1] is the queue; ARGV: group, consumer, idle (ms).
-- What it had read and not acknowledged is handed back: it gets this idle time, at which others take it over. With their
-- consumer these messages would be deleted, so a consumer that has some stays. One script, because a message may still
-- be delivered to it.
local group, consumer, idle = ARGV[1], ARGV[2], ARGV[3]
local pending = redis.call('XPENDING', KEYS[1], group, '-', '+', 1000, consumer)
if #pending == 0 then
    return redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer)
end
for _, message in ipairs(pending) do
    redis.call('XCLAIM', KEYS[1], group, consumer, 0, message[1], 'IDLE', idle, 'JUSTID')
end
return #pending
