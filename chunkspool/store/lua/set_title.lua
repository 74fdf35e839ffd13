-- set_title.lua: give a chat a title, or take it away.
--
-- KEYS  1 log (stream)   2 head (hash)
-- ARGV  1 title, or '' for none
-- Returns {'ok'} | {'gone'}: there is no such chat, or nothing of it is kept any more
-- It lives as long as `head`, which an erase removes, too.
-- Maximum: one field.
if redis.call('XLEN', KEYS[1]) == 0 or redis.call('PTTL', KEYS[2]) < 0 then return {'gone'} end
if ARGV[1] == '' then redis.call('HDEL', KEYS[2], 'title') else redis.call('HSET', KEYS[2], 'title', ARGV[1]) end
return {'ok'}
