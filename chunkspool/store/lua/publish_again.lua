-- publish_again.lua: another caller of the same request is about to publish the message of a generation that waits.
--
-- KEYS  1 gen (hash)
-- ARGV  1 token: this caller's own
-- Returns {queue, task}, or {} where it waits no more
-- While one of its publishers has not failed, the generation is not ended for the others' failures (unpublish.lua).
-- Maximum: PUBLISHERS_MAX publishers.
local PUBLISHERS_MAX = 32
local token = ARGV[1]
local status, queue, task, publishers = unpack(redis.call('HMGET', KEYS[1], 'status', 'queue', 'task', 'publishers'))
if status ~= 'queued' then return {} end
local _, others = string.gsub(publishers or '', '%S+', '')
-- Of so many, one has not failed: it stays for good.
if others >= PUBLISHERS_MAX then token = 'many' end
if not string.find(' ' .. (publishers or '') .. ' ', ' ' .. token .. ' ', 1, true) then
  redis.call('HSET', KEYS[1], 'publishers', (publishers or '') .. ' ' .. token)
end
return {queue or '', task or ''}
