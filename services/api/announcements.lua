-- Reads what workers have announced, and nothing that is longer than an announcement may be: another program may have
-- written a field of any size.
--
-- KEYS[1]  the hash
-- ARGV[1]  how many bytes a field may have, its name included
-- ARGV[2…] the names of the fields; none: all of them
--
-- Answers: the server's time (s, µs); the fields, each its name and its value; the names of those that are longer, the
-- first 100 bytes of each.

local hash, most = KEYS[1], tonumber(ARGV[1])
local names = #ARGV > 1 and {unpack(ARGV, 2)} or redis.call('HKEYS', hash)
local fields, longer = {}, {}
for _, name in ipairs(names) do
  if #name + redis.call('HSTRLEN', hash, name) > most then
    longer[#longer + 1] = string.sub(name, 1, 100)
  else
    local value = redis.call('HGET', hash, name)
    if value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
end
return {redis.call('TIME'), fields, longer}
