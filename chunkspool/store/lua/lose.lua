-- lose.lua: the generation's message is lost for good, so it ends as failed, unless it shows any sign of life.
--
-- KEYS  1-7 as in prelude.lua
-- ARGV  1 generation id   2 generation.failed JSON   3 ms for which it must have been without a sign of life
-- Returns {'lost', seq, ages} | {'stopped', seq, ages}: a stop had been asked | {'alive'} | {'ended', status} | {'gone'}
-- Maximum: one event; nothing in it grows with the chat.
local id, failed_event, silent_ms, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), now_ms()
local status, created, lease, lease_ms, ttl, stop_event =
  unpack(redis.call('HMGET', KEYS[6], 'status', 'created', 'lease', 'lease_ms', 'ttl', 'stop'))
if not status then return gone(id) end
if ENDED[status] then return {'ended', status} end
created, lease, lease_ms, ttl = tonumber(created), tonumber(lease) or 0, tonumber(lease_ms) or 0, tonumber(ttl)
-- Times that lie ahead were written before the server's clock was set back: they are no sign of life.
local seen = math.max(created <= now and created or 0, lease <= now + lease_ms and lease or 0)
if now - seen < silent_ms then return {'alive'} end
check_before_write()
local ending = stop_event and 'stopped' or 'failed'
local last = append(stop_event or failed_event, ttl, now, id)
if ending == 'stopped' then return {'stopped', last, close(KEYS[6], id, ending, ttl, now)} end
redis.call('HSET', KEYS[6], 'lost', 1)
return {'lost', last, close(KEYS[6], id, ending, ttl, now)}
