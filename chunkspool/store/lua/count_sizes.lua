-- count_sizes.lua: note what the logs of some of a tenant's chats take, and take out what has expired, of any tenant.
--
-- KEYS  1 sizes_due, which says which slot of a cluster
-- ARGV  1 tenant   2 how many that have expired to take out   3 hash of the owner whose they are, or '': as is known
--       4… for each chat: its id, "<bytes> <ms of the measurement> <ms that it is kept>"
-- Returns {how many were taken out}
-- Maximum: LOOK_AT chats (schedule.py), each of another owner; 250 that have expired, of up to 10 tenants and owners.
local SCOPES_MAX, FIRST_CHAT = 10, 4
local tenant, most, owner, now = ARGV[1], tonumber(ARGV[2]), ARGV[3], now_ms()
if owner == '' then owner = nil end
-- A write that takes no memory comes first, so that a full Redis takes the others, too.
redis.call('PEXPIRE', KEYS[1], math.max(redis.call('PTTL', KEYS[1]), SPARE_MS))
for i = FIRST_CHAT, #ARGV, 2 do note_size(tenant, owner, ARGV[i], ARGV[i + 1], now) end
local dropped = 0
for _, scope in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, SCOPES_MAX)) do
  if dropped < most then
    local n = drop_expired(scope, now, most - dropped)
    if n == 0 then note_due(scope) end -- it was noted too early
    dropped = dropped + n
  end
end
return {dropped}
