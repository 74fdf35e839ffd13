-- ack_outcomes.lua: a group is done with outcomes. What all groups are done with leaves the stream.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 group   2 why they are set aside instead, or ''   3 deliveries   4… ids
-- Returns {how many were still the group's to acknowledge}
-- Maximum: 100 ids, or one that is set aside; 300 entries trimmed.
local group, why, done = ARGV[1], ARGV[2], 0
for i = 4, #ARGV do
  local entry = why ~= '' and redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
  if entry and redis.pcall('XPENDING', KEYS[1], group, ARGV[i], ARGV[i], 1)[1] then
    set_aside(group, ARGV[i], fields_of(entry[2]), ARGV[3], why)
    done = done + 1
  else
    done = done + redis.call('XACK', KEYS[1], group, ARGV[i])
  end
end
trim()
return {done}
