-- restore_head.lua: `head` was evicted while the log stands; write again which generations have not ended.
--
-- KEYS  1 seq   2 head
-- ARGV  1 ids of the generations that have not ended, oldest first, separated by spaces
-- Returns {1}, or {0} where `head` is there by now
-- Maximum: 6,000 generations.
if redis.call('EXISTS', KEYS[2]) == 1 then return {0} end
-- No identity: the next write gives it one, and readers take any until then.
redis.call('HSET', KEYS[2], 'born', 0)
if ARGV[1] ~= '' then redis.call('HSET', KEYS[2], 'active', ARGV[1]) end
local ttl = redis.call('PTTL', KEYS[1])
redis.call('PEXPIRE', KEYS[2], ttl > 0 and ttl or 86400000)
return {1}
