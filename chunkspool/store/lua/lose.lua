-- lose.lua: the generation's message is lost for good, so it ends as failed, unless it shows any sign of life.
--
-- KEYS  1-6 as in prelude.lua
-- ARGV  1 generation id   2 generation.failed JSON   3 ms for which it must have been without a sign of life
-- Returns {'lost', seq} | {'stopped', seq}: a stop had been asked | {'alive'} | {'ended', status} | {'gone'}
local id, failed_event, silent_ms, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), now_ms()
local status, created, lease, ttl, stop_event =
  unpack(redis.call('HMGET', KEYS[6], 'status', 'created', 'lease', 'ttl', 'stop'))
if not status then return {'gone'} end
if ENDED[status] then return {'ended', status} end
if now - math.max(tonumber(created), tonumber(lease) or 0) < silent_ms then return {'alive'} end
ttl = tonumber(ttl)
local ending = stop_event and 'stopped' or 'failed'
local _, last = append({stop_event or failed_event}, ttl, now)
close(KEYS[6], id, ending, ttl, now)
if ending == 'stopped' then return {'stopped', last} end
redis.call('HSET', KEYS[6], 'lost', 1)
return {'lost', last}
