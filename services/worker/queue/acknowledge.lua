-- Acknowledge a message and delete it: both or neither. An acknowledged message is not delivered again, and would stay in
-- the queue for ever.
--
-- KEYS[1]  the queue (stream)
-- ARGV[1]  the group
-- ARGV[2]  the message's entry

redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[2])
