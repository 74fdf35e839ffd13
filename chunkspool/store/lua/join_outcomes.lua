-- join_outcomes.lua: a consumer joins a group, which is made where there is none.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 group   2 1: also where the group was set aside, which is forgotten then
-- Returns {'joined'} | {'dropped', ms, outcomes lost}: it was set aside, because it read too slowly
-- Consumers that were away for a day and have nothing pending are forgotten.
-- Maximum: 100 consumers are looked at.
local group, AWAY_MS, LOOK_AT = ARGV[1], 86400 * 1000, 100
local dropped = redis.call('HGET', KEYS[4], group)
if dropped and ARGV[2] ~= '1' then
  local ms, lost = string.match(dropped, '^(%d+) (%d+)$')
  return {'dropped', tonumber(ms), tonumber(lost)}
end
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], group, '$', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
redis.call('PEXPIRE', KEYS[1], KEPT_MS)
redis.call('HDEL', KEYS[4], group)
for i, words in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
  local consumer = fields_of(words)
  if i <= LOOK_AT and consumer.pending == 0 and consumer.idle > AWAY_MS then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, consumer.name)
  end
end
return {'joined'}
