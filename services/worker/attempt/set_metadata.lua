#!lua flags=allow-oom
-- Set fields of a task's metadata, and its lifetime. In one step, so that it never lacks a lifetime.
--
-- KEYS[1]  the task's metadata (hash)
-- ARGV[1]  lifetime of the metadata from now, in seconds
-- ARGV[2…] fields and values
--
-- It may run when Redis is full: it is short, and the log, which is written before, has the entry that it records.
--
-- Answers 1. Running it again changes nothing.

redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
