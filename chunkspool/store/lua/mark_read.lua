-- mark_read.lua: a reader has read the chat's events up to a seq. It never goes back.
--
-- KEYS  1 seq (string)   2 readers (hash: reader -> seq)
-- ARGV  1 reader         2 seq   3 '1': the reader is noted as one who has touched the chat (touch.lua)
-- Returns {'ok', how far it has read} | {'ahead', the chat's last seq} | {'gone'}: there is no such chat
--         {'new', ms that the chat is kept}: a reader of whom nothing is known here, who is to be noted first
-- The hash is kept as long as the counter. A seq beyond the counter is one of an earlier chat of this name: it is void.
-- Maximum: one field, however many readers there are.
local reader, seq = ARGV[1], tonumber(ARGV[2])
local last = tonumber(redis.call('GET', KEYS[1]))
if not last then return {'gone'} end
if seq > last then return {'ahead', last} end
local ttl, known = redis.call('PTTL', KEYS[1]), redis.call('HGET', KEYS[2], reader)
if not known and ARGV[3] ~= '1' then return {'new', math.max(ttl, 0)} end
local before = tonumber(known or 0)
if before > last then before = 0 end
if seq >= before then redis.call('HSET', KEYS[2], reader, ARGV[2]) end
if ttl > 0 then redis.call('PEXPIRE', KEYS[2], ttl) end
return {'ok', math.max(seq, before)}
