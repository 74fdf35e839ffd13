-- forget_outcomes.lua: the outcomes of a chat, or of an owner, that was erased leave the streams, and those under way do not enter them.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 c: of a chat, or w: of an owner   2 the chat, or the owner's hash   3 hash of either   4, 5 ids in outcomes and in outcomes_dead after which to look, '-' to begin, '' where all
--       was looked at
-- Returns {id, id}: where to go on; '' where all was looked at
-- Maximum: 8 entries of either, of 128 KB.
local field, value, AT_ONCE, reply = ARGV[1], ARGV[2], 8, {}
if ARGV[4] == '-' and redis.call('EXISTS', KEYS[1]) == 1 then
  local now = now_ms()
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
  redis.call('ZADD', KEYS[2], string.format('%.0f', now + WINDOW_MS), '/' .. field .. ARGV[3])
  redis.call('PEXPIRE', KEYS[2], SEEN_MS)
end
for i, stream in ipairs({KEYS[1], KEYS[3]}) do
  local from, next_from = ARGV[3 + i], ''
  if from ~= '' then
    local found = redis.call('XRANGE', stream, from == '-' and '-' or '(' .. from, '+', 'COUNT', AT_ONCE)
    for _, entry in ipairs(found) do
      if fields_of(entry[2])[field] == value then redis.call('XDEL', stream, entry[1]) end
    end
    if #found == AT_ONCE then next_from = found[#found][1] end
  end
  reply[i] = next_from
end
return reply
