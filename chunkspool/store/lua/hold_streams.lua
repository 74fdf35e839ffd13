-- hold_streams.lua: note how many event streams a process has open, unless they are too many together.
--
-- KEYS  1… streams of a tenant, of an owner or of a chat (hash: process -> "<number> <ms at which it is forgotten> <version>")
-- ARGV  1 process   2 version, which grows with each call of the process: what comes late changes nothing
--       3 ms until it is forgotten   4 tenant   5 default limits "<name> <number> …"
--       6 '1': one of them is new, and may be refused   7… for each KEY: the name of its limit, number
-- Returns {'held'} | {'limited', name of the limit}: nothing was noted
-- Maximum: 50 KEYS, or 3 of HOLDERS_MAX processes each where one is new; of more processes, those that come later are not
-- counted.
local HOLDERS_MAX, FIRST_NUMBER = 1000, 7
local process, version, keep_ms, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), now_ms()

local function read(text)
  local number, ends, its_version = string.match(text or '', '^(%d+) (%d+) ?(%d*)$')
  return tonumber(number or '0'), tonumber(ends or '0'), tonumber(its_version or '') or 0
end

-- What the other processes have open; with those that were killed. What is to last for longer than it ever does was noted
-- before the server's clock was set back.
local function count_others(streams)
  local others, expired, known = 0, {}, redis.call('HGETALL', streams)
  for i = 1, #known, 2 do
    local number, ends = read(known[i + 1])
    if known[i] ~= process then
      if ends > now and ends <= now + keep_ms then others = others + number else expired[#expired + 1] = known[i] end
    end
  end
  return others, expired
end

-- What this process has said of itself, or nil; and whether it has said a newer number already.
local function own_of(streams)
  local text = redis.call('HGET', streams, process)
  local number, _, newest = read(text or '')
  return text and number, newest > version
end

local expired_of = {}
if ARGV[6] == '1' then
  local names = {}
  for i = FIRST_NUMBER, #ARGV, 2 do names[#names + 1] = ARGV[i] end
  local limits = limits_of(ARGV[4], names, parse_limits(ARGV[5]))
  for i, streams in ipairs(KEYS) do
    local others, expired = count_others(streams)
    local own = tonumber(ARGV[FIRST_NUMBER + 2 * i - 1])
    local said, is_late = own_of(streams)
    if is_late then own = math.max(own, said) end
    if others + own > limits[names[i]] then return {'limited', names[i]} end
    expired_of[i] = expired
  end
end
for i, streams in ipairs(KEYS) do
  local number = tonumber(ARGV[FIRST_NUMBER + 2 * i - 1])
  -- A write that takes no memory comes first: who is full must still let events be read (prelude.lua).
  redis.call('PEXPIRE', streams, keep_ms)
  if expired_of[i] and #expired_of[i] > 0 then redis.call('HDEL', streams, unpack(expired_of[i])) end
  local said, is_late = own_of(streams)
  -- A 0 is noted, too: what comes late is then known to be late.
  if not is_late and (said or (number > 0 and redis.call('HLEN', streams) < HOLDERS_MAX)) then
    redis.call('HSET', streams, process, string.format('%.0f %.0f %.0f', number, now + keep_ms, version))
    redis.call('PEXPIRE', streams, keep_ms)
  end
end
return {'held'}
