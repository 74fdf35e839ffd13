-- position.lua: how many generations come before one that waits, about, and in how many ms its turn comes.
--
-- KEYS  1 place
-- ARGV  1 member
-- Returns {ahead, ms or -1: the pace is not known}, or {} where it is in no line
-- About, because the tenants and owners take turns: of each, as many come before it as it has before itself in its own
-- line. Of more than OTHERS_MAX lines only so many are counted.
-- Maximum: 100 owners, and 100 tenants of either priority.
local OTHERS_MAX = 100
local member = ARGV[1]
local place = place_of(member)
if not place then return {} end
local queue, priority, tenant = place.queue, place.priority, place.tenant
local rank = redis.call('ZRANK', key('line', queue, priority, tenant, place.owner), member)
if not rank then return {} end

local ahead = rank
for _, owner in ipairs(redis.call('ZRANGE', key('owners', queue, priority, tenant), 0, OTHERS_MAX - 1)) do
  if owner ~= place.owner then
    ahead = ahead + math.min(redis.call('ZCARD', key('line', queue, priority, tenant, owner)), rank)
  end
end
local own = ahead
for _, other in ipairs(redis.call('ZRANGE', key('lines', queue, priority), 0, OTHERS_MAX - 1)) do
  if other ~= tenant then ahead = ahead + math.min(redis.call('ZCOUNT', key('active', other), WAITING, WAITING), own) end
end
if priority == 'batch' then
  for _, other in ipairs(redis.call('ZRANGE', key('lines', queue, 'interactive'), 0, OTHERS_MAX - 1)) do
    ahead = ahead + redis.call('ZCOUNT', key('active', other), WAITING, WAITING)
  end
end
local pace = clock_of(queue, 'pace')
return {ahead, pace > 0 and math.floor(pace * (ahead + 1)) or -1}
