-- hold_streams.lua: note how many event streams of a tenant a process has open, unless they are too many together.
--
-- KEYS  1 streams (hash: process -> "<number> <ms at which it is forgotten>")
-- ARGV  1 process   2 number   3 ms until it is forgotten   4 tenant   5 default limits "<name> <number> …"
--       6 '1': one of them is new, and may be refused
-- Returns {'held'} | {'limited'}: nothing was noted
-- Maximum: HOLDERS_MAX processes; of more, those that come later are not counted.
local HOLDERS_MAX = 1000
local process, number, keep_ms, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), now_ms()
local others, known, expired, is_known = 0, redis.call('HGETALL', KEYS[1]), {}, false
for i = 1, #known, 2 do
  local n, ends = string.match(known[i + 1], '^(%d+) (%d+)$')
  if known[i] == process then is_known = true
  elseif tonumber(ends or '0') > now then others = others + tonumber(n)
  else expired[#expired + 1] = known[i] end
end
if ARGV[6] == '1' and others + number > limits_of(ARGV[4], {'streams'}, parse_limits(ARGV[5])).streams then
  return {'limited'}
end
if #expired > 0 then redis.call('HDEL', KEYS[1], unpack(expired)) end
if number == 0 then redis.call('HDEL', KEYS[1], process)
elseif is_known or #known / 2 - #expired < HOLDERS_MAX then
  redis.call('HSET', KEYS[1], process, string.format('%.0f %.0f', number, now + keep_ms))
  redis.call('PEXPIRE', KEYS[1], keep_ms)
end
return {'held'}
