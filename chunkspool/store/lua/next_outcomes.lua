-- next_outcomes.lua: hand out outcomes to one consumer of a group: first those that another one has abandoned.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 group   2 consumer   3 most to hand out   4 ms after which one is abandoned   5 most deliveries
--       6 where to go on looking for abandoned ones: what the last call returned, or '0-0'
-- Returns {'ok', where to go on, how many were set aside, id, JSON, deliveries, …} | {'no_group'}
-- Maximum: 16 outcomes of 128 KB; ten times as many pending ones are looked at, 300 entries trimmed.
local group, consumer, most, abandoned_ms, tries = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local claimed = redis.pcall('XAUTOCLAIM', KEYS[1], group, consumer, abandoned_ms, ARGV[6], 'COUNT', most)
if claimed.err then
  if string.find(claimed.err, 'NOGROUP', 1, true) then return {'no_group'} end
  return claimed
end
local reply, dead = {'ok', claimed[1], 0}, 0
local function hand_out(id, outcome, deliveries)
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = id, outcome, deliveries
end
for _, entry in ipairs(claimed[2]) do
  local id, fields = entry[1], fields_of(entry[2])
  local deliveries = redis.call('XPENDING', KEYS[1], group, id, id, 1)[1][4]
  if deliveries > tries then
    set_aside(group, id, fields, deliveries - 1, '')
    dead = dead + 1
  else
    hand_out(id, fields.o, deliveries)
  end
end
local room = most - #claimed[2]
if room > 0 then
  local found = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', room, 'STREAMS', KEYS[1], '>')
  for _, entry in ipairs(found and found[1][2] or {}) do hand_out(entry[1], fields_of(entry[2]).o, 1) end
end
if dead > 0 then trim() end
reply[3] = dead
return reply
