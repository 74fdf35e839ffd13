-- settle_erasure.lua: an erasure has gone through a chat; see touch_prelude.lua.
--
-- KEYS  1 erasures   2 leaving (hash): what the chat was to be taken out of
-- ARGV  1 person   2 tenant and id of the person, as in erasures   3 chat
--       4 '' where nothing of the person is left in it; else for how many ms it stays among those that they have touched: they
--         were about to leave something there
-- Returns {}
-- Maximum: one chat, in as many lists as it has been.
local person, chat, now = ARGV[1], ARGV[3], now_ms()
redis.call('PEXPIRE', KEYS[1], ERASURE_MS) -- as in begin_erasure.lua
if ARGV[4] ~= '' then touch(person, chat, tonumber(ARGV[4]), now) end
redis.call('ZREM', key('erasing', person), chat)
redis.call('UNLINK', KEYS[2])
redis.call('ZADD', KEYS[1], 'XX', now, ARGV[2])
return {}
