-- renew_pin.lua: the TTLs of a pinned chat were renewed; it is due again later. One that was unpinned meanwhile stays so.
--
-- KEYS  1 pins_due
-- ARGV  1 tenant   2 chat   3 ms after which it is due again   4 ms that its keys are kept
-- Returns {'renewed'}
-- Maximum: a few keys.
local tenant, chat, now, kept_ms = ARGV[1], ARGV[2], now_ms(), tonumber(ARGV[4])
redis.call('ZADD', KEYS[1], 'XX', now + ARGV[3], tenant .. ' ' .. chat)
-- The tenant's own list was evicted, if it does not have what the other one has.
if redis.call('ZSCORE', KEYS[1], tenant .. ' ' .. chat) then redis.call('ZADD', key('pinned', tenant), 'NX', now, chat) end
keep_longer(KEYS[1], kept_ms + SPARE_MS)
keep_longer(key('pinned', tenant), kept_ms + SPARE_MS)
return {'renewed'}
