-- lose.lua: the generation's message is lost for good, so it ends as failed, unless it shows any sign of life.
--
-- KEYS  1-6 as in prelude.lua
-- ARGV  1 generation id   2 generation.failed JSON   3 ms for which it must have been without a sign of life
-- Returns {'lost', seq} | {'stopped', seq}: a stop had been asked | {'alive'} | {'ended', status} | {'gone'}
local now = now_ms()
local g = redis.call('HMGET', KEYS[6], 'status', 'created', 'lease', 'ttl', 'stop')
local status, ttl = g[1], tonumber(g[4])
if not status then return {'gone'} end
if ENDED[status] then return {'ended', status} end
if now - math.max(tonumber(g[2]), tonumber(g[3]) or 0) < tonumber(ARGV[3]) then return {'alive'} end
local ending = g[5] and 'stopped' or 'failed'
local _, last = append({g[5] or ARGV[2]}, ttl, now)
close(KEYS[6], ARGV[1], ending, ttl, now)
if ending == 'stopped' then return {'stopped', last} end
redis.call('HSET', KEYS[6], 'lost', 1)
return {'lost', last}
