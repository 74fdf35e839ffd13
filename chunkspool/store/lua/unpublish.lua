-- unpublish.lua: the broker did not take the generation's message. Unless somebody else publishes it, it ends as failed.
--
-- KEYS  1-7 as in prelude.lua   8 request (string, "<id> <after>"; the gen key again when there is no request id)
-- ARGV  1 generation id   2 generation.failed JSON   3 token of the publisher: the generation id, or publish_again.lua's
-- Returns {'failed', seq, ages}: its request may be made again | {'kept'}: another caller of the same request publishes it, or
--         has | {'claimed'}: the message did arrive, a worker has it | {'ended', status} | {'gone'}
-- Maximum: 32 publishers (publish_again.lua).
local id, failed_event, token, now = ARGV[1], ARGV[2], ARGV[3], now_ms()
local status, attempt, ttl, publishers = unpack(redis.call('HMGET', KEYS[6], 'status', 'attempt', 'ttl', 'publishers'))
if not status then return gone(id) end
if ENDED[status] then return {'ended', status} end
if tonumber(attempt) > 0 then return {'claimed'} end
check_before_write()
begin_even_if_full(KEYS[6], tonumber(ttl))
local others = {}
for other in string.gmatch(publishers or '', '%S+') do
  if other ~= token then others[#others + 1] = other end
end
redis.call('HSET', KEYS[6], 'publishers', table.concat(others, ' '))
if #others > 0 then return {'kept'} end
local last = append(failed_event, tonumber(ttl), now, id)
local lived, asked, wanted = close(KEYS[6], id, 'failed', tonumber(ttl), now)
if KEYS[8] ~= KEYS[6] then
  local made = redis.call('GET', KEYS[8])
  if made and string.match(made, '^%S+') == id then redis.call('DEL', KEYS[8]) end
end
return {'failed', last, lived, asked, wanted}
