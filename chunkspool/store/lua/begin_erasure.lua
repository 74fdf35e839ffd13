-- begin_erasure.lua: note that a person is to be erased, with all chats that they have touched so far. What they touch from
-- now on is noted for itself, and not erased: so an erasure has an end. See touch_prelude.lua.
--
-- KEYS  1 erasures
-- ARGV  1 person   2 tenant and id of the person, as in erasures   3 '1': it is asked for; '': one is under way, if it still is
-- Returns {ms by Redis's clock}
-- Maximum: a few keys, however many chats there are.
local person, now = ARGV[1], now_ms()
-- A write that takes no memory comes first, so that a full Redis takes the others, too: an erasure makes room.
redis.call('PEXPIRE', KEYS[1], ERASURE_MS)
if ARGV[3] == '' then
  redis.call('ZADD', KEYS[1], 'XX', now, ARGV[2])
  return {now}
end
redis.call('ZADD', KEYS[1], now, ARGV[2])
redis.call('PEXPIRE', KEYS[1], ERASURE_MS)
if redis.call('EXISTS', key('erasing', person)) == 1 then
  -- What an earlier one has left is gone through first; then what has come since (end_erasure.lua).
  redis.call('ZADD', key('erasing', person), now, AGAIN)
else set_aside(person) end
return {now}
