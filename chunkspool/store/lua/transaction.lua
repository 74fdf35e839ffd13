-- transaction.lua: commands that see one moment, for a Redis that is full: Redis 7 then refuses whatever MULTI queues.
--
-- KEYS  those of the commands
-- ARGV  for each command: the number of its words, then its words
-- Returns the replies, in order
-- Errors: WRONGTYPE where a key is another program's.
-- Maximum: 500 commands of a few words, or a few commands with 500 members each: a page of the sweep.
local replies, i = {}, 1
while i <= #ARGV do
  local words = tonumber(ARGV[i])
  replies[#replies + 1] = redis.call(unpack(ARGV, i + 1, i + words))
  i = i + words + 1
end
return replies
