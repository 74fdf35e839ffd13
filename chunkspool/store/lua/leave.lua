-- leave.lua: take a chat out of lists that name it, unless it was noted there once more: it has begun anew.
--
-- KEYS  1… lists (zset: chat -> ms): of chats, or of what a person has touched
-- ARGV  1 chat   2… for each list: the chat's ms when it was read. At most TOUCHED_AT_ONCE of them
-- Returns {how many named it}
-- Maximum: 100 lists.
local chat, left = ARGV[1], 0
for i, list in ipairs(KEYS) do
  local at = redis.call('ZSCORE', list, chat)
  if at and tonumber(at) == tonumber(ARGV[i + 1]) then
    left = left + redis.call('ZREM', list, chat)
    local person = string.match(list, '}:touched:(.+)$')
    if person and redis.call('EXISTS', list) == 0 then redis.call('ZREM', key('touched_due'), person) end
  end
end
return {left}
