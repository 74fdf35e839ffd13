-- sizes_prelude.lua: what the logs of each tenant's and each owner's chats take. It follows schedule_prelude.lua.
--
-- A scope is "<tenant>", or "<tenant>/<owner>" with the owner's hash: a chat counts for whoever asked in it last.
--
--   sizes:<scope>        hash  chat -> "<bytes> <ms of the measurement> <owner, or /> "; TOTAL -> the sum of all bytes
--   sizes_until:<scope>  zset  chat -> ms at which its log expires
--   sizes_due            zset  scope -> ms at which the first of its logs expires, or earlier
--   tenant_bytes         zset  tenant -> the sum of its bytes; TOTAL -> that of all tenants: Spool.stats
--   tenant_chats         zset  tenant -> how many chats that are; TOTAL -> those of all tenants
-- The sum changes in the same call as what it is the sum of, so it is exact whoever tells of a chat at once. What expires
-- is taken out: a few with each note, the others by the sweep.
local TOTAL = '/' -- no chat has this id
local EXPIRED_WITH_NOTE, DROPS_WITH_NOTES = 2, 6
local SPARE_MS = 86400 * 1000 -- the keys live so much longer than the last of their logs
local drops = 0 -- scopes of which a call with many notes has taken out what expired

local function sum_of(scope) return tonumber(redis.call('HGET', key('sizes', scope), TOTAL) or '0') end

local function size_in(text)
  local bytes, at, owner = string.match(text or '', '^(%d+) (%d+) (%S+)')
  return tonumber(bytes or '0'), tonumber(at or '0'), owner or NOBODY
end

local function keep_longer(name, ms)
  if redis.call('PTTL', name) < ms then redis.call('PEXPIRE', name, ms) end
end

local function set_of_tenant(name, tenant, value, kept_ms)
  local known = tonumber(redis.call('ZSCORE', name, tenant) or '0')
  if value ~= known then
    local total = tonumber(redis.call('ZSCORE', name, TOTAL) or '0') + value - known
    if total <= 0 then redis.call('DEL', name)
    else redis.call('ZADD', name, string.format('%.0f', total), TOTAL, string.format('%.0f', value), tenant) end
    if value == 0 then redis.call('ZREM', name, tenant) end
  end
  if value > 0 then keep_longer(name, kept_ms) end
end

-- Says it across tenants, too. The total there is the sum of what stands there, also after the key was evicted.
local function note_tenant(scope)
  if string.find(scope, '/', 1, true) then return end
  local chats = math.max(redis.call('HLEN', key('sizes', scope)) - 1, 0)
  local kept_ms = math.max(redis.call('PTTL', key('sizes_until', scope)), SPARE_MS)
  set_of_tenant(key('tenant_bytes'), scope, chats > 0 and sum_of(scope) or 0, kept_ms)
  set_of_tenant(key('tenant_chats'), scope, chats, kept_ms)
end

-- Notes in sizes_due when the next of a scope expires; nothing of a scope stays that has no chat any more.
local function note_due(scope)
  local first = redis.call('ZRANGE', key('sizes_until', scope), 0, 0, 'WITHSCORES')[2]
  if first then
    redis.call('ZADD', key('sizes_due'), first, scope)
    keep_longer(key('sizes_due'), SPARE_MS)
  else
    redis.call('DEL', key('sizes', scope), key('sizes_until', scope))
    redis.call('ZREM', key('sizes_due'), scope)
  end
  note_tenant(scope)
end

-- Takes chats that are gone out of a scope's list, but not those in which somebody has asked since they were measured:
-- they have begun anew.
local function unlist_gone(scope, chats)
  local listed = key('chats', scope)
  if #chats == 0 then return end
  for i, text in ipairs(redis.call('HMGET', key('sizes', scope), unpack(chats))) do
    local _, at = size_in(text or '')
    local asked = redis.call('ZSCORE', listed, chats[i])
    if asked and tonumber(asked) <= at then redis.call('ZREM', listed, chats[i]) end
  end
end

-- Takes chats of a scope out, and what they count for.
local function drop_sizes(scope, chats)
  local sizes, freed = key('sizes', scope), 0
  if #chats == 0 then return end
  for _, text in ipairs(redis.call('HMGET', sizes, unpack(chats))) do freed = freed + size_in(text or '') end
  redis.call('HDEL', sizes, unpack(chats))
  redis.call('ZREM', key('sizes_until', scope), unpack(chats))
  -- Where `sizes` was evicted, none is made: it would have no TTL.
  if freed > 0 then redis.call('HSET', sizes, TOTAL, string.format('%.0f', sum_of(scope) - freed)) end
  note_due(scope)
end

-- Takes out up to `most` whose logs have expired; returns how many.
local function drop_expired(scope, now, most)
  local expired = redis.call('ZRANGEBYSCORE', key('sizes_until', scope), '-inf', now, 'LIMIT', 0, most)
  unlist_gone(scope, expired)
  drop_sizes(scope, expired)
  return #expired
end

-- One of the two was evicted: what is left says nothing. All that is used counts again soon.
local function begin_anew_if_evicted(scope)
  local sizes, untils = key('sizes', scope), key('sizes_until', scope)
  if math.max(redis.call('HLEN', sizes) - 1, 0) ~= redis.call('ZCARD', untils) then redis.call('DEL', sizes, untils) end
end

local function set_size(scope, chat, text, bytes, ends, now)
  local sizes, untils = key('sizes', scope), key('sizes_until', scope)
  begin_anew_if_evicted(scope)
  local known, sum = unpack(redis.call('HMGET', sizes, chat, TOTAL))
  sum = tonumber(sum or '0') - size_in(known or '') + bytes
  redis.call('HSET', sizes, chat, text, TOTAL, string.format('%.0f', sum))
  redis.call('ZADD', untils, ends, chat)
  redis.call('ZADD', key('sizes_due'), 'LT', ends, scope)
  local kept_ms = ends - now + SPARE_MS
  if redis.call('PTTL', untils) < kept_ms then
    for _, name in ipairs({sizes, untils}) do redis.call('PEXPIRE', name, kept_ms) end
    keep_longer(key('sizes_due'), kept_ms)
  end
  note_tenant(scope)
  if drops < DROPS_WITH_NOTES then
    drops = drops + 1
    drop_expired(scope, now, EXPIRED_WITH_NOTE)
  end
end

-- Notes what the log of a chat took at a moment, as "<bytes> <ms of the measurement> <ms that it is kept>"; of one that is
-- gone, 0 bytes. `owner`: nil where nobody knows it here. What was measured before the newest that is known tells nothing,
-- unless that lies ahead: then the server's clock was set back. Of two in one ms the larger is newer: a log only grows.
local function note_size(tenant, owner, chat, size, now)
  local bytes, at, kept_ms = string.match(size, '^(%d+) (%d+) (%d+)$')
  local found = redis.call('HGET', key('sizes', tenant), chat)
  local known_bytes, known_at, known_owner = size_in(found or '')
  local is_gone, ahead = bytes == '0', known_at - tonumber(at)
  if known_at <= now and (ahead > 0 or (ahead == 0 and not is_gone and known_bytes > tonumber(bytes))) then return end
  owner = owner or known_owner
  if found and is_gone then drop_sizes(tenant, {chat}) end
  if known_owner ~= NOBODY and (is_gone or known_owner ~= owner) then drop_sizes(tenant .. '/' .. known_owner, {chat}) end
  if is_gone then return end
  local text, ends = bytes .. ' ' .. at .. ' ' .. owner, math.min(now, tonumber(at)) + tonumber(kept_ms)
  set_size(tenant, chat, text, tonumber(bytes), ends, now)
  if owner ~= NOBODY then set_size(tenant .. '/' .. owner, chat, text, tonumber(bytes), ends, now) end
end
