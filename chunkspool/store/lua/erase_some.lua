-- erase_some.lua: some generations of a chat that has too many for erase.lua, which is to follow.
--
-- KEYS  1-7 as in prelude.lua (6 is not used)   8… every key of these generations: hashes and requests
-- ARGV  1 stops channel   2 how many of them are active   3… their ids: first the active ones, as they stand in head
-- Returns {'erased', number of keys deleted} | {'changed'}: the active ones are others meanwhile; read again and come back
-- Maximum: 256 generations with a request each, of 6,000 that head lists; however many the chat has.
local FIRST_KEY, FIRST_ID = 8, 3
local stops_channel, number = ARGV[1], tonumber(ARGV[2])
local last_active = FIRST_ID + number - 1
local stretch = table.concat(ARGV, ' ', FIRST_ID, last_active)
local active = redis.call('HGET', KEYS[3], 'active') or ''
if number > 0 and not find_active(active, stretch) then return {'changed'} end
-- As in erase.lua: first what a user may lack the right for, last the pushes.
redis.call('PUBLISH', stops_channel, NO_STOP)
redis.call('PUBLISH', KEYS[5], NO_FRAME)
redis.call('ZREM', KEYS[4], unpack(ARGV, FIRST_ID))
local deleted = redis.call('UNLINK', unpack(KEYS, FIRST_KEY))
if number > 0 then
  replace_active(stretch, '')
  for i = FIRST_ID, last_active do redis.call('PUBLISH', stops_channel, ARGV[i]) end
  redis.call('PUBLISH', KEYS[5], LOOK)
end
return {'erased', deleted}
