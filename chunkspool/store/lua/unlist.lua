-- unlist.lua: take chats out of the list of a tenant, or of an owner, or out of what they have touched, or put them back to
-- where they were, unless somebody has asked in them meanwhile.
--
-- KEYS  1 the list (zset: chat -> ms of its newest question)
-- ARGV  for each chat: its id, its ms when it was read, and the ms before that one, or ''. At most UNLISTED_AT_ONCE
--       (store/chats.py) of them
-- Returns {how many were taken out or put back}
-- Maximum: 100 chats.
local done = 0
for i = 1, #ARGV, 3 do
  local chat, at, before = ARGV[i], redis.call('ZSCORE', KEYS[1], ARGV[i]), ARGV[i + 2]
  if at and tonumber(at) == tonumber(ARGV[i + 1]) then
    if before == '' then redis.call('ZREM', KEYS[1], chat) else redis.call('ZADD', KEYS[1], before, chat) end
    done = done + 1
  end
end
-- As in leave.lua: nothing is to be looked at of who has no chat any more.
local prefix, person = string.match(KEYS[1], '^(.*}:)touched:(.+)$')
if person and redis.call('EXISTS', KEYS[1]) == 0 then redis.call('ZREM', prefix .. 'touched_due', person) end
return {done}
