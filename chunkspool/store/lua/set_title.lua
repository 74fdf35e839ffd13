-- set_title.lua: give a chat a title, or take it away.
--
-- KEYS  1 log (stream)   2 title (string), which is kept as long as the log: see prelude.lua
-- ARGV  1 title, or '' for none
-- Returns {'ok'} | {'gone'}: there is no such chat, or nothing of it is kept any more
-- Maximum: one key.
local ttl = redis.call('PTTL', KEYS[1])
if ttl <= 0 or redis.call('XLEN', KEYS[1]) == 0 then return {'gone'} end
if ARGV[1] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[1], 'PX', ttl) end
return {'ok'}
