-- unlist.lua: take chats out of the list of a tenant, or of an owner, unless somebody has asked in them meanwhile.
--
-- KEYS  1 the list (zset: chat -> ms of its newest question)
-- ARGV  for each chat: its id, and its ms when it was read. At most UNLISTED_AT_ONCE (store/chats.py) of them
-- Returns {how many were taken out}
-- Maximum: 100 chats.
local taken = 0
for i = 1, #ARGV, 2 do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if at and tonumber(at) == tonumber(ARGV[i + 1]) then taken = taken + redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return {taken}
