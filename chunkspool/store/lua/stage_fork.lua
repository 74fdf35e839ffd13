-- stage_fork.lua: some more events of a copy that is to become a chat's log.
--
-- KEYS  1 copy (stream). Its name is random, so it is one caller's own
-- ARGV  1 seq of the last event that is in it, or 0   2 ms to keep it, from now on
--       3… for each event: its seq, its ms and its JSON
-- Returns {'staged'}, also when this very call comes again | {'gone'}: the copy has expired, or was evicted
-- Maximum: 256 events, together 256 KB; or a single larger one.
local FIRST, EACH = 3, 3
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local last = newest and string.match(newest[1], '^%d+') or '0'
if last == ARGV[#ARGV - EACH + 1] then return {'staged'} end
if last ~= ARGV[1] then return {'gone'} end
for i = FIRST, #ARGV, EACH do redis.call('XADD', KEYS[1], ARGV[i], 't', ARGV[i + 1], 'e', ARGV[i + 2]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'staged'}
