-- outcomes_prelude.lua: what the scripts of a tenant's outcomes share. It is put in front of each of them.
--
-- KEYS  1 outcomes          stream  of each generation that has ended: o = JSON (chunkspool/outcomes.py), c = the chat's id,
--                                   w = hash of the owner
--       2 outcomes_seen     zset    generation -> ms until which it is known to be in the stream; "/c<hash of a chat>" and
--                                   "/w<hash of an owner>" -> ms until which it is known that it was erased
--       3 outcomes_dead     stream  what was set aside: group, at, why, n = deliveries, id, o, c, w
--       4 outcomes_dropped  hash    group that was set aside -> "<ms> <outcomes that it lost>"
-- The stream is trimmed by what all groups have acknowledged, and by nothing else.
local KEPT_MS, SEEN_MS, MARK_MS, WINDOW_MS = 366 * 86400 * 1000, 8 * 86400 * 1000, 7 * 86400 * 1000, 600 * 1000
local TRIMMED_AT_ONCE, NODE_ENTRIES, DEAD_MAX, DEAD_MS = 300, 100, 1000, 30 * 86400 * 1000

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function groups()
  local found = {}
  if redis.call('EXISTS', KEYS[1]) == 0 then return found end
  for i, words in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for j = 1, #words, 2 do group[words[j]] = words[j + 1] end
    found[i] = group
  end
  return found
end

local function parts_of(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end

local function is_before(a, b)
  local a_ms, a_n = parts_of(a)
  local b_ms, b_n = parts_of(b)
  return a_ms < b_ms or (a_ms == b_ms and a_n < b_n)
end

-- The first id that the group still needs.
local function needed_from(group)
  if group.pending > 0 then
    local first = redis.call('XPENDING', KEYS[1], group.name, '-', '+', 1)[1]
    if first then return first[1] end
  end
  local ms, n = parts_of(group['last-delivered-id'])
  return string.format('%.0f-%.0f', ms, n + 1)
end

-- Trims what all groups have acknowledged; tells whether all of that is gone.
local function trim()
  local from
  for _, group in ipairs(groups()) do
    local its = needed_from(group)
    if not from or is_before(its, from) then from = its end
  end
  if not from then return true end
  -- By whole nodes of the stream. The limit stops in front of a node that would exceed it.
  local trimmed = redis.call('XTRIM', KEYS[1], 'MINID', '~', from, 'LIMIT', TRIMMED_AT_ONCE)
  if trimmed > TRIMMED_AT_ONCE - NODE_ENTRIES then return false end
  redis.call('XTRIM', KEYS[1], 'MINID', '=', from) -- what is left is less than one node of the stream
  return true
end

local function fields_of(words)
  local fields = {}
  for i = 1, #words, 2 do fields[words[i]] = words[i + 1] end
  return fields
end

local function set_aside(group, id, fields, deliveries, why)
  redis.call('XADD', KEYS[3], 'MAXLEN', '=', DEAD_MAX, '*', 'group', group, 'at', string.format('%.0f', now_ms()),
    'why', why, 'n', deliveries, 'id', id, 'o', fields.o, 'c', fields.c, 'w', fields.w or '/')
  redis.call('PEXPIRE', KEYS[3], DEAD_MS)
  redis.call('XACK', KEYS[1], group, id)
end
