-- drop.lua: the log forgets what is oldest in it: whole generations, all of which have ended.
--
-- KEYS  1 log   2 head   3 digest, which says the same once more   4 outbox
-- ARGV  1 log's identity   2 seq of the log's first event, as the caller saw it   3 seq of the first event to keep
-- Returns {'dropped', number of events} | {'changed'}: the log is another one, or the chat is pinned
--         | {'active'}: a generation that has not ended has, or may have, an event before the first to keep; or the outcome
--           of one is not told yet, which may want its text
-- Where generations begin and end, the caller has read in the log. What has ended writes nothing more, so only what is
-- active can make that untrue: an evicted `head` was restored meanwhile.
-- Maximum: 20,000 events, 64 active and 64 untold generations; the caller gives no more, but for a single generation that has more.
local ENDED = {completed = true, stopped = true, failed = true}
local ACTIVE_LOOKED_AT = 64
local identity, first, keep_from = ARGV[1], ARGV[2], tonumber(ARGV[3])
local log, pinned, active = unpack(redis.call('HMGET', KEYS[2], 'log', 'pinned', 'active'))
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if log ~= identity or pinned or not oldest or oldest[1] ~= first .. '-0'
  or tonumber(string.match(newest[1], '^%d+')) < keep_from then
  return {'changed'}
end
local looked_at = 0
for id in string.gmatch(active or '', '%S+') do
  looked_at = looked_at + 1
  local status, after = unpack(redis.call('HMGET', string.sub(KEYS[2], 1, -5) .. 'gen:' .. id, 'status', 'after'))
  local is_over = not status or ENDED[status]
  if looked_at > ACTIVE_LOOKED_AT or (not is_over and tonumber(after or '0') + 1 < keep_from) then return {'active'} end
end
-- "<status> <attempt> <created> <started> <after> …"
if redis.call('HLEN', KEYS[4]) > ACTIVE_LOOKED_AT then return {'active'} end
local untold = redis.call('HGETALL', KEYS[4])
for i = 2, #untold, 2 do
  local after = string.match(untold[i], '^%S+ %S+ %S+ %S+ (%d+)')
  if not after or tonumber(after) + 1 < keep_from then return {'active'} end
end
redis.call('UNLINK', KEYS[3])
return {'dropped', redis.call('XTRIM', KEYS[1], 'MINID', string.format('%.0f-0', keep_from))}
