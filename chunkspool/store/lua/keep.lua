-- keep.lua: for how long a chat is kept, from now on, with some of its generations; the last call of several settles it.
--
-- KEYS  1-7 as in prelude.lua (6 is not used)   8 digest   9… gens, up to 64
-- ARGV  1 'keep' | 'pin' | 'unpin' | 'renew' (pin, if it is pinned still)
--       2 ms: for 'unpin' where the chat has no ttl of its own   3… ids of the generations
-- Returns {'kept', ms} | {'pinned'}: 'keep' only notes the ttl for the time when it is unpinned | {'gone'}: nothing is kept
--         {'unpinned'}: 'renew' has nothing to do
-- Maximum: 64 generations with a request each.
local FIRST_GEN, FIRST_ID = 9, 3
local what, ttl, now = ARGV[1], tonumber(ARGV[2]), now_ms()
local log, pinned, own = unpack(redis.call('HMGET', KEYS[3], 'log', 'pinned', 'ttl'))
if redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('HDEL', KEYS[3], 'pinned', 'kept')
  return {'gone'}
end
-- Where `head` was evicted, the index knows better.
if what == 'renew' and log and not pinned then return {'unpinned'} end
if what == 'unpin' and own then ttl = tonumber(own) end
if what == 'keep' then redis.call('HSET', KEYS[3], 'ttl', ttl) end
if what == 'keep' and pinned then return {'pinned'} end
if what == 'pin' or what == 'renew' then redis.call('HSET', KEYS[3], 'pinned', 1) end
if what == 'unpin' then redis.call('HDEL', KEYS[3], 'pinned') end
redis.call('HSET', KEYS[3], 'kept', string.format('%.0f', now + ttl))

for i = FIRST_ID, #ARGV do
  local gen = KEYS[FIRST_GEN + i - FIRST_ID]
  local status, lease_ms, request = unpack(redis.call('HMGET', gen, 'status', 'lease_ms', 'request_id'))
  if status then
    local its_ttl = ENDED[status] and ttl or running_ttl(ttl, tonumber(lease_ms or '0'))
    redis.call('HSET', gen, 'ttl', string.format('%.0f', ttl))
    redis.call('PEXPIRE', gen, its_ttl)
    list_generation(ARGV[i], its_ttl, now)
    if request and request ~= '' then
      redis.call('PEXPIRE', string.sub(KEYS[3], 1, -5) .. 'request:' .. request, its_ttl)
    end
  end
end
settle_ttl(now)
if redis.call('PTTL', KEYS[8]) > ttl then redis.call('PEXPIRE', KEYS[8], ttl) end
return {'kept', string.format('%.0f', ttl)}
