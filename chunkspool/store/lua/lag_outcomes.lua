-- lag_outcomes.lua: how far the groups of a tenant are behind.
--
-- KEYS  as in outcomes_prelude.lua
-- Returns {now, group, undelivered, pending, ms of the oldest that is not acknowledged, or 0, ms since which it is set
--         aside, or 0, outcomes that it lost, …}
-- Maximum: 100 groups; none of it grows with what they have to read.
local GROUPS_MAX, reply = 100, {now_ms()}
for i, group in ipairs(groups()) do
  if i > GROUPS_MAX then break end
  local first = redis.call('XRANGE', KEYS[1], needed_from(group), '+', 'COUNT', 1)[1]
  local undelivered = group.lag or redis.call('XLEN', KEYS[1]) -- after an erase, Redis does not know
  local oldest = first and parts_of(first[1]) or 0
  for _, word in ipairs({group.name, first and undelivered or 0, group.pending, oldest, 0, 0}) do reply[#reply + 1] = word end
end
for i, name in ipairs(redis.call('HKEYS', KEYS[4])) do
  if i > GROUPS_MAX then break end
  local ms, lost = string.match(redis.call('HGET', KEYS[4], name), '^(%d+) (%d+)$')
  for _, word in ipairs({name, 0, 0, 0, tonumber(ms), tonumber(lost)}) do reply[#reply + 1] = word end
end
return reply
