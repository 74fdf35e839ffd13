-- schedule_prelude.lua: what the index's scripts share. It is put in front of each of them.
--
-- All keys begin as KEYS[1] does, with the hash tag {index}, so all are in one slot on Redis Cluster. They are built here,
-- because which tenants wait is only known here.
--
--   place:<generation>                   string  "<tenant> <chat> <owner, or / for none> <priority> <queue> <task>"
--   unfinished:<queue>                   zset    member -> ms of its enqueue. A member is "<tenant> <chat> <generation>"
--   sent:<queue>                         zset    member -> ms at which its message was handed to the broker; not claimed
--   running:<queue>                      zset    member -> as in sent, of those that a worker has claimed
--   queued:<queue>:<priority>            zset    member -> ms of its enqueue, of those that no worker has claimed: Spool.stats;
--                                                one that waited for others of its chat: ms at which these had ended
--   lines:<queue>:<priority>             zset    tenant -> its turn; the lowest is next
--   owners:<queue>:<priority>:<tenant>   zset    owner -> its turn among those of its tenant
--   line:<queue>:<priority>:<tenant>:<owner>  zset  member -> ms at which it began to wait
--   clock:<queue>                        hash    the turn that was served last: of each priority, and of each priority and
--                                                tenant; sent = how many came out of lines; at, pace = ms of the last of
--                                                them, and ms from one to the next
--   slots:<queue>                        hash    worker -> "<slots> <ms at which they are forgotten>"
--   active:<tenant>                      zset    member -> WAITING, SENT or RUNNING, of every queue
--   active:<tenant>/<owner>              zset    the same for one owner
--   rate:<tenant>, rate:<tenant>/<owner>, rate:<tenant>:<hash of a chat>
--                                        string  ms at which the next request would be due at an even pace
--   policy:<tenant>                      hash    limit -> value, where it is not the default
--   retention_due                        zset    "<tenant> <chat>" -> ms at which its log is to be looked at, whether it is
--                                                longer than it may be kept
--   pins_due                             zset    "<tenant> <chat>" -> ms at which its TTLs are to be renewed; the pinned ones
--   pinned:<tenant>                      zset    chat -> ms at which it was pinned
-- <queue> and <task> are percent-encoded. <owner> is a hash: these keys may outlive a chat, and an owner's name may not.
local PREFIX, INDEX_MS, PRIORITIES = string.match(KEYS[1], '^[^}]*}:'), 7 * 86400 * 1000, {'interactive', 'batch'}
local WAITING, SENT, RUNNING, NOBODY = 0, 1, 2, '/'
local BATCH_TURN = 8 -- of so many that come out of lines, one is a batch generation, whoever else waits
local WORKERS_MAX, PACE_GAP = 1000, 600 * 1000
local LOOKS_MAX = 60 -- lines that one call looks at; the next call goes on
local looks = 0

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function key(...) return PREFIX .. table.concat({...}, ':') end

local function put(zset, score, member, nx)
  if nx then redis.call('ZADD', zset, 'NX', score, member) else redis.call('ZADD', zset, score, member) end
  redis.call('PEXPIRE', zset, INDEX_MS)
end

local function place_of(member)
  local place = redis.call('GET', key('place', string.match(member, '%S+$')))
  local tenant, owner, priority, queue, task = string.match(place or '', '^(%S+) %S+ (%S+) (%S+) (%S+) (%S+)$')
  if tenant then return {tenant = tenant, owner = owner, priority = priority, queue = queue, task = task} end
end

local function scopes_of(place)
  local scopes = {key('active', place.tenant)}
  if place.owner ~= NOBODY then scopes[2] = key('active', place.tenant .. '/' .. place.owner) end
  return scopes
end

-- Under the ms of its enqueue, which the index knows: one that a worker gave back has waited since then.
local function note_state(member, place, state)
  for _, scope in ipairs(scopes_of(place)) do put(scope, state, member) end
  local queued = key('queued', place.queue, place.priority)
  if state == RUNNING then redis.call('ZREM', queued, member)
  else put(queued, redis.call('ZSCORE', key('unfinished', place.queue), member) or now_ms(), member, true) end
end

local function clock_of(queue, field) return tonumber(redis.call('HGET', key('clock', queue), field) or '0') end

local function set_clock(queue, ...)
  redis.call('HSET', key('clock', queue), ...)
  redis.call('PEXPIRE', key('clock', queue), INDEX_MS)
end

-- Whoever joins has the turn that was served last, not an older one: to have been away gives no right to catch up.
local function join(place)
  local queue, priority, tenant = place.queue, place.priority, place.tenant
  local lines = key('lines', queue, priority)
  put(key('owners', queue, priority, tenant), clock_of(queue, priority .. ' ' .. tenant), place.owner, true)
  if redis.call('ZCARD', lines) == 0 then redis.call('HDEL', key('clock', queue), 'at') end
  put(lines, clock_of(queue, priority), tenant, true)
end

-- Lines whose tenant or owner may not run more were taken out when their turn came (next_waiting). Now one may.
local function reopen(place)
  for _, priority in ipairs(PRIORITIES) do
    local there = {queue = place.queue, priority = priority, tenant = place.tenant, owner = place.owner}
    if redis.call('EXISTS', key('line', place.queue, priority, place.tenant, place.owner)) == 1 then join(there)
    elseif redis.call('EXISTS', key('owners', place.queue, priority, place.tenant)) == 1 then
      put(key('lines', place.queue, priority), clock_of(place.queue, priority), place.tenant, true)
    end
  end
end

local function wait(member, place, now)
  redis.call('ZREM', key('sent', place.queue), member)
  redis.call('ZREM', key('running', place.queue), member)
  put(key('line', place.queue, place.priority, place.tenant, place.owner), now, member, true)
  note_state(member, place, WAITING)
  join(place)
end

local function send(member, place, now)
  put(key('sent', place.queue), now, member)
  note_state(member, place, SENT)
end

local function run(member, place, now)
  local sent = redis.call('ZSCORE', key('sent', place.queue), member)
  redis.call('ZREM', key('sent', place.queue), member)
  redis.call('ZREM', key('line', place.queue, place.priority, place.tenant, place.owner), member)
  put(key('running', place.queue), sent or now, member, true)
  note_state(member, place, RUNNING)
end

-- It is to wait for others of its chat: it is in no line, and more workers would not help it. One that is in a line or runs
-- has been freed meanwhile.
local function hold_back(member, place)
  local line = key('line', place.queue, place.priority, place.tenant, place.owner)
  if redis.call('ZSCORE', line, member) or redis.call('ZSCORE', key('running', place.queue), member) then return end
  redis.call('ZREM', key('sent', place.queue), member)
  note_state(member, place, WAITING)
  redis.call('ZREM', key('queued', place.queue, place.priority), member)
end

-- Those before it in its chat have ended: it waits for a worker from now on.
local function free(member, place, now)
  put(key('queued', place.queue, place.priority), now, member, true)
  wait(member, place, now)
end

-- The name of an owner stands nowhere once nothing of theirs waits.
local function close_empty_line(place)
  local queue, priority, tenant = place.queue, place.priority, place.tenant
  local owners = key('owners', queue, priority, tenant)
  if redis.call('EXISTS', key('line', queue, priority, tenant, place.owner)) == 0 then
    redis.call('ZREM', owners, place.owner)
  end
  if redis.call('EXISTS', owners) == 0 then
    redis.call('ZREM', key('lines', queue, priority), tenant)
    redis.call('HDEL', key('clock', queue), priority .. ' ' .. tenant)
  end
end

local function forget(member, place)
  redis.call('ZREM', key('sent', place.queue), member)
  redis.call('ZREM', key('running', place.queue), member)
  redis.call('ZREM', key('line', place.queue, place.priority, place.tenant, place.owner), member)
  redis.call('ZREM', key('queued', place.queue, place.priority), member)
  close_empty_line(place)
  for _, scope in ipairs(scopes_of(place)) do redis.call('ZREM', scope, member) end
  reopen(place)
end

-- Limits of a tenant: its policy's, else the defaults, which come as "<name> <number>" words.
local function limits_of(tenant, names, defaults)
  local found, limits = redis.call('HMGET', key('policy', tenant), unpack(names)), {}
  for i, name in ipairs(names) do limits[name] = tonumber(found[i]) or defaults[name] end
  return limits
end

local function may_run(scope, limit) return redis.call('ZCOUNT', scope, SENT, RUNNING) < limit end

-- How many more messages the workers of a queue can have at once. Without any known worker: `ahead` of those that run.
local function room_of(queue, ahead, now)
  local slots, known, expired = 0, redis.call('HGETALL', key('slots', queue)), {}
  for i = 1, #known, 2 do
    local n, ends = string.match(known[i + 1], '^(%d+) (%d+)$')
    if tonumber(ends or '0') > now then slots = slots + tonumber(n) else expired[#expired + 1] = known[i] end
  end
  if #expired > 0 then redis.call('HDEL', key('slots', queue), unpack(expired)) end
  local sent, running = redis.call('ZCARD', key('sent', queue)), redis.call('ZCARD', key('running', queue))
  if slots > 0 then return slots - sent - running end
  return ahead + math.floor(running / 4) - sent
end

local function first_of(zset)
  local found = redis.call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return found[1], tonumber(found[2])
end

local function next_of_tenant(queue, priority, tenant, limit)
  local owners = key('owners', queue, priority, tenant)
  while looks < LOOKS_MAX do
    looks = looks + 1
    local owner, turn = first_of(owners)
    if not owner then return nil end
    local line, member = key('line', queue, priority, tenant, owner), nil
    if owner == NOBODY or may_run(key('active', tenant .. '/' .. owner), limit) then
      member = redis.call('ZPOPMIN', line)[1]
    end
    if not member then redis.call('ZREM', owners, owner)
    else
      set_clock(queue, priority .. ' ' .. tenant, turn)
      put(owners, turn + 1, owner)
      return member
    end
  end
end

-- The next that waits: the tenants take turns, and within a tenant its owners. A line is taken out here where its
-- tenant or owner runs all it may, so each is looked at once, not at every call.
local function next_waiting(queue, priority, defaults)
  local lines = key('lines', queue, priority)
  while looks < LOOKS_MAX do
    looks = looks + 1
    local tenant, turn = first_of(lines)
    if not tenant then return nil end
    local limits, member = limits_of(tenant, {'running', 'owner_running'}, defaults), nil
    if may_run(key('active', tenant), limits.running) then
      member = next_of_tenant(queue, priority, tenant, limits.owner_running)
    end
    if not member then
      if looks >= LOOKS_MAX then return nil end
      redis.call('ZREM', lines, tenant)
    else
      set_clock(queue, priority, turn)
      put(lines, turn + 1, tenant)
      return member
    end
  end
end

-- Takes up to `most` out of the lines, as far as the workers have room; returns them, as {member, queue, task}.
local function take_out(queue, ahead, most, defaults, now)
  local taken, room = {}, math.min(most, room_of(queue, ahead, now))
  while #taken < room do
    local n = clock_of(queue, 'sent') + 1
    local first, second = PRIORITIES[1], PRIORITIES[2]
    if n % BATCH_TURN == 0 then first, second = second, first end
    local member = next_waiting(queue, first, defaults) or next_waiting(queue, second, defaults)
    if not member then break end
    set_clock(queue, 'sent', string.format('%.0f', n))
    local place = place_of(member)
    if place then
      close_empty_line(place)
      send(member, place, now)
      taken[#taken + 1] = {member, place.queue, place.task}
    end
  end
  if #taken > 0 then
    local at, pace = tonumber(redis.call('HGET', key('clock', queue), 'at')), clock_of(queue, 'pace')
    if at and now >= at and now - at < PACE_GAP then
      local each = (now - at) / #taken
      pace = pace > 0 and pace + (each - pace) / 8 or each
    end
    set_clock(queue, 'at', now, 'pace', string.format('%.3f', pace))
  end
  return taken
end

-- The defaults as a table, from "<name> <number> …".
local function parse_limits(text)
  local limits = {}
  for name, value in string.gmatch(text, '(%S+) (%S+)') do limits[name] = tonumber(value) end
  return limits
end
