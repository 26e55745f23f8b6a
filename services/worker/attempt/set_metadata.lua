#!lua flags=allow-oom
-- Set fields of a task's metadata, and its lifetime. In one step, so that it never lacks a lifetime.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  lifetime of the metadata from now, in seconds
-- ARGV[2]  the attempt that must be the task's latest; or 0: whichever is
-- ARGV[3…] fields and values
--
-- It may run when Redis is full: it is short, and the log, which is written before, has the entry that it records.
--
-- Answers 1; or 0 if a later attempt has begun, whose fields these would replace. Running it again changes nothing.

if ARGV[2] ~= '0' and redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
