-- end_erasure.lua: an erasure is done, if nothing is left to go through. What is kept of the person apart from their chats
-- goes with it, unless they have touched some since; see touch_prelude.lua.
--
-- KEYS  1 erasures   2… what goes: keys of the person, each of which begins anew with their next question
-- ARGV  1 person   2 tenant and id of the person, as in erasures
-- Returns {'done'} | {'more'}: there is more to go through
-- Maximum: a few keys; Redis frees their memory in a thread of its own.
local FIRST_OTHER = 2
local person = ARGV[1]
local erasing = key('erasing', person)
redis.call('PEXPIRE', KEYS[1], ERASURE_MS) -- as in begin_erasure.lua
local left = redis.call('ZCARD', erasing)
if left == 1 and redis.call('ZREM', erasing, AGAIN) == 1 then
  set_aside(person)
  left = redis.call('ZCARD', erasing)
end
if left > 0 then return {'more'} end
if redis.call('EXISTS', key('touched', person)) == 0 then
  redis.call('UNLINK', unpack(KEYS, FIRST_OTHER))
  redis.call('ZREM', key('sizes_due'), person)
  redis.call('ZREM', key('touched_due'), person)
end
redis.call('ZREM', KEYS[1], ARGV[2])
return {'done'}
