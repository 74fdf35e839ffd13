-- free_next.lua: the oldest generation of a chat that has not ended may begin, if it waited behind others until now.
--
-- KEYS  1-5 as in prelude.lua
-- ARGV  1… ids of generations that wait behind others, oldest first. They are kept while they do, and listed in `head` again
--       where it was evicted
-- Returns {its id}, or {} where none waits, or the oldest is no longer to wait
-- Maximum: 32 ids, and ACTIVE_LOOKED_AT active generations whose hash is gone; the next call goes on.
local SHORT = 32 * 129 -- ids: a longer list was not evicted a moment ago, and is not searched
local now, gone, unlisted, freed = now_ms(), {}, {}, nil
local ids = redis.call('HGET', KEYS[3], 'active') or ''
for _, id in ipairs(ARGV) do
  local status, ttl = unpack(redis.call('HMGET', gen_key(id), 'status', 'ttl'))
  if status == 'queued' then
    redis.call('PEXPIRE', gen_key(id), ttl)
    list_generation(id, tonumber(ttl), now)
    if #ids <= SHORT and not find_active(ids, id) then unlisted[#unlisted + 1] = id end
  end
end
if #unlisted > 0 then
  ids = (ids == '' and ids or ids .. ' ') .. table.concat(unlisted, ' ')
  write_active(ids)
end
for id in string.gmatch(ids, '%S+') do
  local status, behind = unpack(redis.call('HMGET', gen_key(id), 'status', 'behind'))
  if status and not ENDED[status] then
    if status == 'queued' and behind then freed = id end
    break
  end
  gone[#gone + 1] = id
  if #gone == ACTIVE_LOOKED_AT then break end
end
if #gone > 0 then
  replace_active(table.concat(gone, ' '), '')
  redis.call('PUBLISH', KEYS[5], LOOK) -- nobody is to wait for them
end
if not freed then return {} end
redis.call('HDEL', gen_key(freed), 'behind')
redis.call('HSET', gen_key(freed), 'freed', now)
return {freed}
