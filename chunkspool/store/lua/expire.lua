-- expire.lua: nobody wants the generation any more, because it waited for too long: it ends as failed, unless it runs.
--
-- KEYS  1-7 as in prelude.lua
-- ARGV  1 generation id   2 generation.failed JSON
-- Returns {'expired', seq, ages} | {'alive'}: it has been claimed, or its time has not come | {'ended', status} | {'gone'}
-- Maximum: one event; nothing in it grows with the chat.
local id, failed_event, now = ARGV[1], ARGV[2], now_ms()
local status, expires, attempt, ttl = unpack(redis.call('HMGET', KEYS[6], 'status', 'expires', 'attempt', 'ttl'))
if not status then return gone(id) end
if ENDED[status] then return {'ended', status} end
if not has_expired(expires, attempt, now) then return {'alive'} end
check_before_write()
local last = append(failed_event, tonumber(ttl), now, id)
return {'expired', last, close(KEYS[6], id, 'failed', tonumber(ttl), now)}
