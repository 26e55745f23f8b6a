-- The write rule: the only code that writes to a log.
--
-- It appends all entries or none, sets the lifetime, publishes every entry, and answers the new length. A refusal is a
-- negative number and changes nothing. Running it again with the same arguments changes nothing and answers the same, so
-- a caller whose reply was lost simply calls it again.
--
-- KEYS[1]  the log (list)
-- ARGV[1]  the length the writer expects: the seq of its first entry
-- ARGV[2]  the writer's attempt
-- ARGV[3]  lifetime of the log from now, in seconds
-- ARGV[4]  the channel
-- ARGV[5…] the entries, at least one, at most 4,000 (Lua's stack holds no more than 8,000)
--
-- Answers: the length after the entries, or
--   -1 FENCED     a newer attempt has written, or other entries stand there: this writer was replaced
--   -2 CLOSED     the last entry is an end
--   -3 TRUNCATED  the log is shorter than expected: expired, evicted or lost in a failover

local FENCED, CLOSED, TRUNCATED = -1, -2, -3
local log = KEYS[1]
local expected, attempt = tonumber(ARGV[1]), tonumber(ARGV[2])
local count = #ARGV - 4

-- Entries begin with these two fields, so the rule needs no JSON parser. (LUA_HEAD in plugins/entries.py)
local function last_entry()
  local line = redis.call('LINDEX', log, -1)
  if not line then return nil, 0 end
  local event, of = string.match(line, '^{"event":"([%w_.-]+)","attempt":(%d+),')
  return event, tonumber(of) or math.huge
end

local function already_there()
  local standing = redis.call('LRANGE', log, expected, expected + count - 1)
  for i = 1, count do
    if standing[i] ~= ARGV[4 + i] then return false end
  end
  return true
end

local length = redis.call('LLEN', log)
if length < expected then return TRUNCATED end
-- A retry after a lost reply is checked first: its own end must not look like another writer's.
if length > expected and already_there() then return expected + count end

local event, newest = last_entry()
if event == 'done' or event == 'failed' or event == 'cancelled' then return CLOSED end
if length > expected or newest > attempt then return FENCED end

redis.call('RPUSH', log, unpack(ARGV, 5))
redis.call('EXPIRE', log, ARGV[3])
for i = 5, #ARGV do redis.call('PUBLISH', ARGV[4], ARGV[i]) end
return expected + count
