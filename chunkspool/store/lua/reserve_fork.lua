-- reserve_fork.lua: note a chat that is about to be made of another one: in the lists, and what its log takes; or say which
-- limit it meets.
--
-- KEYS  1 sizes_due, which says which slot of a cluster
-- ARGV  1 tenant   2 chat   3 hash of the owner, or / for none   4 "<bytes> <ms of the measurement> <ms that it is kept>"
--       5 default limits "<name> <number> …"                     6 how many chats of an overfull limit to name
-- Returns {'reserved', policy's ttl in ms or '', now, when the chat was asked before, or ''; the same by the owner, if there
--         is one, and when they touched it}
--         {'limited', name of the limit, ms until it is worth another try, or -1, chat…}: as in reserve.lua
-- Maximum: 100 logs of tenant and owner that have expired are forgotten; 25 chats are named.
local tenant, chat, owner, size, defaults = ARGV[1], ARGV[2], ARGV[3], ARGV[4], parse_limits(ARGV[5])
local look_at, now = tonumber(ARGV[6]), now_ms()
local limits = limits_of(tenant, {'bytes', 'owner_bytes', 'chat_bytes'}, defaults)
local bytes, _, kept_ms = string.match(size, '^(%d+) (%d+) (%d+)$')
if tonumber(bytes) > limits.chat_bytes then return {'limited', 'chat_bytes', -1} end
local scopes = {{tenant, 'bytes'}}
if owner ~= NOBODY then scopes[2] = {tenant .. '/' .. owner, 'owner_bytes'} end
for _, scope in ipairs(scopes) do
  if is_too_large(scope[1], tonumber(bytes), limits[scope[2]], now) then
    return limited_bytes(scope[2], scope[1], look_at, now)
  end
end
local ttl = tonumber(redis.call('HGET', key('policy', tenant), 'ttl'))
local asked_before, longest_ms = {}, math.max(tonumber(kept_ms), ttl or 0)
for i, scope in ipairs(scopes) do asked_before[i] = list_chat(scope[1], chat, longest_ms, now) end
if scopes[2] then asked_before[3] = touch(scopes[2][1], chat, longest_ms, now) end
note_size(tenant, owner, chat, size, now)
return {'reserved', ttl or '', now, unpack(asked_before)}
