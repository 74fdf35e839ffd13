-- chats_after.lua: the next of a tenant's chats, in the order in which their logs expire.
--
-- KEYS  1 sizes_until of the tenant
-- ARGV  1 score of the last chat that was seen, 2 its name; 0 and '' at the beginning   3 how many
-- Returns {number of all, chat, score, …}
-- Maximum: 200 chats, however many there are.
-- By its rank, in the same moment: many may expire in the same ms, and others go in front of it meanwhile. Where it is
-- gone itself, those of its ms come again.
local score, rank = redis.call('ZSCORE', KEYS[1], ARGV[2]), redis.call('ZRANK', KEYS[1], ARGV[2])
local from = score == ARGV[1] and rank + 1 or redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[1])
return {redis.call('ZCARD', KEYS[1]),
  unpack(redis.call('ZRANGE', KEYS[1], from, from + ARGV[3] - 1, 'WITHSCORES'))}
