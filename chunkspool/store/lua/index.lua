-- index.lua: note where a generation is, and that it has not ended, before it is made.
--
-- KEYS  1 place (string, "<tenant> <chat id>")   2 unfinished (zset: member -> ms of the enqueue)
-- ARGV  1 place   2 ms to keep it   3 member     4 ms after which the index forgets
-- Returns {number of members that were too old and have been taken out}
-- Maximum: EXPIRED_AT_ONCE of them, the oldest, however many there are: each call adds one and takes out more.
-- All by Redis's clock: one that is wrong on the caller's machine would hide generations from the sweep, or wipe the
-- index.
local EXPIRED_AT_ONCE = 64
local time = redis.call('TIME')
local now, index_ms = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[4])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[3])
redis.call('PEXPIRE', KEYS[2], index_ms)
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - index_ms, 'LIMIT', 0, EXPIRED_AT_ONCE)
if #expired > 0 then redis.call('ZREM', KEYS[2], unpack(expired)) end
return {#expired}
