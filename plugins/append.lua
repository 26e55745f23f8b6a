-- The write rule: the only code that writes to a log.
--
-- It appends all entries or none, sets the lifetime, publishes every entry, and answers the new length. A refusal is a
-- negative number and changes nothing. Running it again with the same arguments changes nothing and answers the same, so
-- a caller whose reply was lost simply calls it again.
--
-- KEYS[1]  the log (list)
-- KEYS[2]  the task's metadata (hash)
-- ARGV[1]  the length the writer expects: the seq of its first entry
-- ARGV[2]  the writer's attempt
-- ARGV[3]  the writer's claim; or empty: the API, which has none, may end any task; or `-`: it ends one whose lease is over
-- ARGV[4]  lifetime of the log from now, in seconds
-- ARGV[5]  the channel
-- ARGV[FIRST…] the entries, at most 4,000 (Lua's stack holds no more than 8,000); none: record the end that is there
--
-- FIRST and record come before this text (plugins/append.py). The function record is what else the step does: that of
-- record_end.lua for an end, of record_mark.lua for the mark of an attempt, nothing for chunks.
--
-- Answers: the length after the entries, or
--   -1 FENCED     the task is not this claim's any more, or is purged; a newer attempt has written, or other entries stand
--                 there; or a task that should have lost its worker is leased
--   -2 CLOSED     the last entry is an end
--   -3 TRUNCATED  the log is shorter than expected: expired, evicted or lost in a failover

local FENCED, CLOSED, TRUNCATED = -1, -2, -3
local log = KEYS[1]
local expected, attempt, claim = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local count = #ARGV - FIRST + 1

-- Entries begin with these two fields, so the rule needs no JSON parser. (LUA_HEAD in plugins/entries.py)
local function last_entry()
  local line = redis.call('LINDEX', log, -1)
  if not line then return nil, 0 end
  local event, of = string.match(line, '^{"event":"([%w_.-]+)","attempt":(%d+),')
  return event, tonumber(of) or math.huge
end

local function already_there()
  if count == 0 then return true end
  local standing = redis.call('LRANGE', log, expected, expected + count - 1)
  for i = 1, count do
    if standing[i] ~= ARGV[FIRST - 1 + i] then return false end
  end
  return true
end

-- Redis may have lost its last second, with the claim in it: then another worker may have the same attempt.
local function is_fenced()
  local fields = redis.call('HMGET', KEYS[2], 'status', 'claim', 'lease_until')
  if not fields[1] then return true end -- purged, or lost: nothing ends the log of a task that is unknown
  if claim == '' then return false end
  if claim ~= '-' then return fields[1] ~= 'running' or fields[2] ~= claim end
  local clock = redis.call('TIME')
  return fields[1] == 'running' and (tonumber(fields[3]) or 0) > clock[1] * 1000 + math.floor(clock[2] / 1000)
end

local length = redis.call('LLEN', log)
if length < expected then return TRUNCATED end
-- A retry after a lost reply is checked first: its own end must not look like another writer's.
if length > expected and already_there() then
  if record then record(true) end
  return expected + count
end

local event, newest = last_entry()
if count == 0 then return TRUNCATED end
if event == 'done' or event == 'failed' or event == 'cancelled' then return CLOSED end
if length > expected or newest > attempt or is_fenced() then return FENCED end

redis.call('RPUSH', log, unpack(ARGV, FIRST))
redis.call('EXPIRE', log, ARGV[4])
for i = FIRST, #ARGV do redis.call('PUBLISH', ARGV[5], ARGV[i]) end
if record then record(false) end
return expected + count
