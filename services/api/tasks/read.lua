#!lua flags=no-writes
-- Read tasks: of each the fields of its metadata that are asked for, and what its log says, all of one moment. A chunk may
-- be large, and does not leave Redis: of a long last entry only the beginning does, unless it is an end.
--
-- This is the one check of whether a caller may have a task: nothing of a task of another owner is read, so that it costs
-- and answers what a task costs and answers that there is not.
--
-- KEYS     of each task the metadata (hash) and the log (list)
-- ARGV[1]  bytes of the last entry that are answered
-- ARGV[2]  the same, if it is an end
-- ARGV[3…] of each task the owner that it must be of; or `*`: any will do
-- ARGV[…]  behind these the fields
--
-- Answers for each task {the values of the fields; the length of the log; the bytes of the last entry; that entry, or its
-- beginning}, or the error with which Redis refuses to read its metadata; with an error in the place of the length if Redis
-- refuses to read its log. Answers nothing for a task of another owner, or of none.

local ENDS = {done = true, failed = true, cancelled = true}

local fields = 3 + #KEYS / 2

local function read(task, log, owner)
  if owner ~= '*' and redis.pcall('HGET', task, 'owner') ~= owner then return false end
  local values = redis.pcall('HMGET', task, unpack(ARGV, fields))
  if values.err then return values end
  local length = redis.pcall('LLEN', log)
  if type(length) == 'table' then return {values, length, 0, ''} end
  local line = redis.call('LINDEX', log, -1) or ''
  local event = string.match(line, '^{"event":"([%w_.-]+)",')
  return {values, length, #line, string.sub(line, 1, tonumber(ENDS[event] and ARGV[2] or ARGV[1]))}
end

local tasks = {}
for i = 1, #KEYS, 2 do
  local task = #tasks + 1
  tasks[task] = read(KEYS[i], KEYS[i + 1], ARGV[2 + task])
end
return tasks
