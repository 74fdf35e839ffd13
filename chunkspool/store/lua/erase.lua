-- erase.lua: no byte of the chat remains. Its live attempts are told to stop, its readers are woken.
--
-- KEYS  1 seq   2 log   3 head   4 gens   5 live (channel)   6… every other key of the chat
-- ARGV  1 head's active, 2 number of gens that the caller saw   3 stops channel   4… ids of the active generations
-- Returns {'erased', keys deleted} | {'changed'}: a generation was added or ended meanwhile; read again and come back
if (redis.call('HGET', KEYS[3], 'active') or '') ~= ARGV[1] or redis.call('ZCARD', KEYS[4]) ~= tonumber(ARGV[2]) then
  return {'changed'}
end
local deleted = 0
for i, key in ipairs(KEYS) do
  if i ~= 5 then deleted = deleted + redis.call('UNLINK', key) end
end
for i = 4, #ARGV do redis.call('PUBLISH', ARGV[3], ARGV[i]) end
redis.call('PUBLISH', KEYS[5], '0 0\n')
return {'erased', deleted}
