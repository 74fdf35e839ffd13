-- erase.lua: no byte of the chat remains. Its live attempts are told to stop, its readers are woken.
--
-- KEYS  1 seq   2 log   3 head   4 gens   5 live (channel)   6… every other key of the chat
-- ARGV  1 head's active, 2 number of gens that the caller saw   3 stops channel   4… ids of the active generations
-- Returns {'erased', keys deleted} | {'changed'}: a generation was added or ended meanwhile; read again and come back
-- Maximum: 256 generations with a request each, all of them active; erase_some.lua goes before it where there are more.
-- Of large keys (a log, many readers) Redis frees the memory in a thread of its own.
local LIVE, FIRST_OTHER, FIRST_ACTIVE = 5, 6, 4
local NO_STOP, NO_FRAME, LOOK = '.', '.', '0 0\n' -- as in prelude.lua
local seen_active, seen_gens, stops_channel = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if (redis.call('HGET', KEYS[3], 'active') or '') ~= seen_active or redis.call('ZCARD', KEYS[4]) ~= seen_gens then
  return {'changed'}
end
-- First what a user may lack the right for, with messages that say nothing. The pushes come last: a server that refuses
-- writes would publish all the same, and attempts would stop in a chat that is still there.
redis.call('PUBLISH', stops_channel, NO_STOP)
redis.call('PUBLISH', KEYS[LIVE], NO_FRAME)
local deleted = redis.call('UNLINK', unpack(KEYS, 1, LIVE - 1)) + redis.call('UNLINK', unpack(KEYS, FIRST_OTHER))
for i = FIRST_ACTIVE, #ARGV do redis.call('PUBLISH', stops_channel, ARGV[i]) end
redis.call('PUBLISH', KEYS[LIVE], LOOK)
return {'erased', deleted}
