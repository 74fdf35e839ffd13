-- forget.lua: take back what reserve.lua noted of generations that were never made, or are erased.
--
-- KEYS  1… place of each
-- ARGV  for each of them: its member, and the queue that it was made for, percent-encoded. At most NOTES_MAX of them
-- Returns {}
-- Maximum: 25 generations.
for i, place_key in ipairs(KEYS) do
  local member, queue = ARGV[2 * i - 1], ARGV[2 * i]
  local place = place_of(member)
  if place then forget(member, place) end
  redis.call('DEL', place_key)
  redis.call('ZREM', key('unfinished', queue), member)
  redis.call('ZREM', key('republished', queue), member)
  redis.call('ZREM', key('active', string.match(member, '^%S+')), member)
end
return {}
