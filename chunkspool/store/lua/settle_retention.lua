-- settle_retention.lua: chats have been looked at, whether their logs are longer than they may be kept.
--
-- KEYS  1 retention_due
-- ARGV  1… of each chat: its member, its score as the caller saw it, and ms after which it is due again, or ''
-- Returns {number of those that were taken out}
-- Maximum: 100 chats.
-- Where something has ended in a chat meanwhile, its score is another one: it stays due.
local EACH, taken, time = 3, 0, redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, EACH do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1] then
    if ARGV[i + 2] == '' then taken = taken + redis.call('ZREM', KEYS[1], ARGV[i])
    else redis.call('ZADD', KEYS[1], now + ARGV[i + 2], ARGV[i]) end
  end
end
return {taken}
