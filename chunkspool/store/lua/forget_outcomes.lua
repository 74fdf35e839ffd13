-- forget_outcomes.lua: the outcomes of a chat that was erased leave the streams, and those under way do not enter them.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 chat   2 its hash   3, 4 ids in outcomes and in outcomes_dead after which to look, '-' to begin, '' where all
--       was looked at
-- Returns {id, id}: where to go on; '' where all was looked at
-- Maximum: 8 entries of either, of 128 KB.
local chat, AT_ONCE, reply = ARGV[1], 8, {}
if ARGV[3] == '-' and redis.call('EXISTS', KEYS[1]) == 1 then
  local now = now_ms()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + WINDOW_MS), '/' .. ARGV[2])
  redis.call('PEXPIRE', KEYS[2], SEEN_MS)
end
for i, stream in ipairs({KEYS[1], KEYS[3]}) do
  local from, next_from = ARGV[2 + i], ''
  if from ~= '' then
    local found = redis.call('XRANGE', stream, from == '-' and '-' or '(' .. from, '+', 'COUNT', AT_ONCE)
    for _, entry in ipairs(found) do
      if fields_of(entry[2]).c == chat then redis.call('XDEL', stream, entry[1]) end
    end
    if #found == AT_ONCE then next_from = found[#found][1] end
  end
  reply[i] = next_from
end
return reply
