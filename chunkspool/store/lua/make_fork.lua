-- make_fork.lua: a copy becomes the log of a chat that has nothing yet.
--
-- KEYS  1-7 as in prelude.lua (6 is not used)   8 copy (stream)   9 title   10 digest
-- ARGV  1 identity of the new log   2 seq of the copy's last event   3 ttl ms
--       4 hashes of its owners      5 title, or ''                   6 recent messages, as in enqueue.lua, or ''
-- Returns {'made'}, also when this very call comes again | {'exists'}: the chat has something
--         {'gone'}: the copy has expired, or was evicted
-- Maximum: a few keys, however long the log is.
local log, last, ttl, now = ARGV[1], ARGV[2], tonumber(ARGV[3]), now_ms()
local owners, title, recent = ARGV[4], ARGV[5], ARGV[6]
local is_there = redis.call('EXISTS', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[7], KEYS[9], KEYS[10]) > 0
if is_there then
  local is_ours = redis.pcall('HGET', KEYS[3], 'log') == log
  return {is_ours and 'made' or 'exists'}
end
local newest = redis.call('XREVRANGE', KEYS[8], '+', '-', 'COUNT', 1)[1]
if not newest or newest[1] ~= last .. '-0' then return {'gone'} end
-- As in erase.lua: what a user may lack the right for comes first.
redis.call('PUBLISH', KEYS[5], NO_FRAME)
redis.call('RENAME', KEYS[8], KEYS[2])
redis.call('PEXPIRE', KEYS[2], ttl)
redis.call('SET', KEYS[1], last)
-- No generation of it keeps the chat for so long: `kept` says it.
redis.call('HSET', KEYS[3], 'log', log, 'born', now, 'kept', now + ttl)
if owners ~= '' then redis.call('HSET', KEYS[3], 'owners', owners) end
if recent ~= '' then redis.call('HSET', KEYS[3], 'recent', recent) end
if title ~= '' then redis.call('SET', KEYS[9], title) end
keep_chat(ttl)
redis.call('PUBLISH', KEYS[5], LOOK)
return {'made'}
