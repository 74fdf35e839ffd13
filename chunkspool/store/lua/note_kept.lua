-- note_kept.lua: note in the index that a chat is pinned, or no longer; or that it is kept for longer than others.
--
-- KEYS  1 pins_due, which says which slot of a cluster
-- ARGV  1 'pin' | 'unpin' | 'keep'   2 tenant   3 chat   4 default limits "<name> <number> …"
--       5 ms after which the pin is to be renewed   6 ms that the chat's keys are kept   7… hashes of its owners
-- Returns {'noted'} | {'limited', number}: the tenant's policy allows no more pinned chats than that
-- Maximum: 64 owners.
local FIRST_OWNER = 7
local what, tenant, chat, defaults, now = ARGV[1], ARGV[2], ARGV[3], parse_limits(ARGV[4]), now_ms()
local after, kept_ms = tonumber(ARGV[5]), tonumber(ARGV[6])
local pinned, member = key('pinned', tenant), tenant .. ' ' .. chat
if what == 'unpin' then
  redis.call('ZREM', pinned, chat)
  redis.call('ZREM', KEYS[1], member)
  return {'noted'}
end
if what == 'pin' then
  local most = limits_of(tenant, {'pinned'}, defaults).pinned or 0
  if not redis.call('ZSCORE', pinned, chat) and redis.call('ZCARD', pinned) >= most then return {'limited', most} end
  redis.call('ZADD', pinned, 'NX', now, chat)
  redis.call('ZADD', KEYS[1], now + after, member)
  keep_longer(pinned, kept_ms + SPARE_MS)
  keep_longer(KEYS[1], kept_ms + SPARE_MS)
end
keep_longer(key('chats', tenant), kept_ms + SPARE_MS)
for i = FIRST_OWNER, #ARGV do keep_longer(key('chats', tenant .. '/' .. ARGV[i]), kept_ms + SPARE_MS) end
return {'noted'}
