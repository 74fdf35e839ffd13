-- leave_outcomes.lua: a consumer leaves its group, unless it has left something unacknowledged; or the group ends.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 group   2 consumer, or '': the group ends, with all that it has not read
-- Returns {groups that are left}
-- Maximum: 1,000 consumers are looked at; 300 entries trimmed.
local group, consumer = ARGV[1], ARGV[2]
if consumer == '' then
  redis.pcall('XGROUP', 'DESTROY', KEYS[1], group)
  redis.call('HDEL', KEYS[4], group)
else
  local found = redis.pcall('XINFO', 'CONSUMERS', KEYS[1], group)
  for _, words in ipairs(found.err and {} or found) do
    local one = fields_of(words)
    if one.name == consumer and one.pending == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer) end
  end
end
local left = #groups()
if left == 0 then redis.call('UNLINK', KEYS[1]) else trim() end
return {left}
