-- sizes_prelude.lua: what the logs of each tenant's and each owner's chats take. It follows schedule_prelude.lua.
--
-- A scope is "<tenant>", or "<tenant>/<owner>" with the owner's hash: a chat counts for whoever asked in it last.
--
--   sizes:<scope>        hash  chat -> "<bytes> <ms of the measurement> <owner, or /> "; TOTAL -> the sum of all bytes
--   sizes_until:<scope>  zset  chat -> ms at which its log expires
--   sizes_due            zset  scope -> ms at which the first of its logs expires, or earlier
-- The sum changes in the same call as what it is the sum of, so it is exact whoever tells of a chat at once. What expires
-- is taken out: a few with each note, the others by the sweep.
local TOTAL = '/' -- no chat has this id
local EXPIRED_WITH_NOTE = 2

local function sum_of(scope) return tonumber(redis.call('HGET', key('sizes', scope), TOTAL) or '0') end

local function size_in(text)
  local bytes, at, owner = string.match(text or '', '^(%d+) (%d+) (%S+)')
  return tonumber(bytes or '0'), tonumber(at or '0'), owner or NOBODY
end

local function keep_longer(name, ms)
  if redis.call('PTTL', name) < ms then redis.call('PEXPIRE', name, ms) end
end

local function add_to_sum(scope, bytes)
  redis.call('HSET', key('sizes', scope), TOTAL, string.format('%.0f', sum_of(scope) + bytes))
end

local function note_due(scope)
  local first = redis.call('ZRANGE', key('sizes_until', scope), 0, 0, 'WITHSCORES')[2]
  if first then
    redis.call('ZADD', key('sizes_due'), first, scope)
    keep_longer(key('sizes_due'), INDEX_MS)
  else
    redis.call('UNLINK', key('sizes', scope), key('sizes_until', scope))
    redis.call('ZREM', key('sizes_due'), scope)
  end
end

-- Takes chats of a scope out, and what they count for.
local function drop_sizes(scope, chats)
  if #chats == 0 or redis.call('EXISTS', key('sizes', scope)) == 0 then return end
  local freed = 0
  for _, chat in ipairs(chats) do freed = freed + size_in(redis.call('HGET', key('sizes', scope), chat)) end
  redis.call('HDEL', key('sizes', scope), unpack(chats))
  redis.call('ZREM', key('sizes_until', scope), unpack(chats))
  add_to_sum(scope, -freed)
  note_due(scope)
end

-- Takes out up to `most` whose logs have expired; returns how many.
local function drop_expired(scope, now, most)
  local expired = redis.call('ZRANGEBYSCORE', key('sizes_until', scope), '-inf', now, 'LIMIT', 0, most)
  drop_sizes(scope, expired)
  if #expired == 0 then note_due(scope) end
  return #expired
end

local function set_size(scope, chat, text, bytes, ends, now)
  local sizes, untils = key('sizes', scope), key('sizes_until', scope)
  local number = redis.call('HLEN', sizes)
  if math.max(number - 1, 0) ~= redis.call('ZCARD', untils) then
    -- One of them was evicted. What is left says nothing; all that is used counts again soon.
    redis.call('UNLINK', sizes, untils)
  end
  local known = size_in(redis.call('HGET', sizes, chat))
  redis.call('HSET', sizes, chat, text)
  redis.call('ZADD', untils, ends, chat)
  add_to_sum(scope, bytes - known)
  keep_longer(sizes, ends - now + INDEX_MS)
  keep_longer(untils, ends - now + INDEX_MS)
  redis.call('ZADD', key('sizes_due'), 'LT', ends, scope)
  keep_longer(key('sizes_due'), ends - now + INDEX_MS)
  drop_expired(scope, now, EXPIRED_WITH_NOTE)
end

-- Notes what the log of a chat took at a moment, as "<bytes> <ms of the measurement> <ms that it is kept>"; of one that is
-- gone, 0 bytes. `owner`: nil where nobody knows it here. What was measured before the newest that is known tells nothing, unless that lies ahead:
-- then the server's clock was set back.
local function note_size(tenant, owner, chat, size, now)
  local bytes, at, kept_ms = string.match(size, '^(%d+) (%d+) (%d+)$')
  local found = redis.call('HGET', key('sizes', tenant), chat)
  local _, known_at, known_owner = size_in(found)
  if found and known_at > tonumber(at) and known_at <= now then return end
  owner = owner or known_owner
  if tonumber(bytes) == 0 then
    if found then drop_sizes(tenant, {chat}) end
    if known_owner ~= NOBODY then drop_sizes(tenant .. '/' .. known_owner, {chat}) end
    return
  end
  if known_owner ~= owner and known_owner ~= NOBODY then drop_sizes(tenant .. '/' .. known_owner, {chat}) end
  local text, ends = bytes .. ' ' .. at .. ' ' .. owner, now + tonumber(kept_ms)
  set_size(tenant, chat, text, tonumber(bytes), ends, now)
  if owner ~= NOBODY then set_size(tenant .. '/' .. owner, chat, text, tonumber(bytes), ends, now) end
end
