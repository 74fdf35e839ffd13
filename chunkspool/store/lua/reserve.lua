-- reserve.lua: note where a generation will be, and that it has not ended, before it is made; or say which limit it meets.
--
-- KEYS  1 place   2 unfinished
-- ARGV  1 place, text      2 ms to keep it   3 member   4 ahead   5 default limits "<name> <number> …"
--       6 bytes of the request               7 how many members of an overfull limit to look at
-- Returns {'reserved', sent 0|1, policy's ttl in ms or '', most bytes of a chat's log, most active of a chat or '', now, 1 if
--         somebody waits for the tenant's outcomes, else 0,
--         when the chat was asked before, or ''; the same by the owner, if there is one, and when they touched it}: sent says
--         that its message may go to the broker at once; otherwise it is to wait in its line (schedule.lua)
--         {'limited', name of the limit, ms until it is worth another try, or -1, chat…}: of a limit of bytes some of
--         the chats that count, others each time, to be measured again before anybody is refused
-- All by Redis's clock: one that is wrong on the caller's machine would hide generations from the sweep, or wipe the
-- index.
-- Maximum: 25 members of a full limit are looked at from either end, for tenant and owner, and as many chats are named;
-- 100 of the index and 100 logs of either are forgotten; 1,000 workers.
local MINUTE, EXPIRED_MAX = 60 * 1000, 100
local place_text, place_ms, member, ahead = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local defaults, size, look_at, now = parse_limits(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), now_ms()
local tenant, chat, owner, priority, queue, task = string.match(place_text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
local place = {tenant = tenant, owner = owner, priority = priority, queue = queue, task = task}
local limits = limits_of(tenant, {'queued', 'running', 'per_minute', 'owner_queued', 'owner_running',
  'owner_per_minute', 'chat_per_minute', 'bytes', 'owner_bytes', 'request_bytes', 'chat_bytes'}, defaults)
if size > limits.request_bytes then return {'limited', 'request_bytes', -1} end

-- Takes out what has ended: its process died before it could. The sweep would find it, too, but later.
local function prune(scope)
  for _, range in ipairs({{0, look_at - 1}, {-look_at, -1}}) do
    for _, other in ipairs(redis.call('ZRANGE', scope, range[1], range[2])) do
      local its = place_of(other)
      if not its then redis.call('ZREM', scope, other)
      elseif not redis.call('ZSCORE', key('unfinished', its.queue), other) then forget(other, its) end
    end
  end
end

local function queued(scope) return redis.call('ZCOUNT', scope, WAITING, SENT) end

local function is_full(scope, limit)
  if queued(scope) < limit then return false end
  prune(scope)
  return queued(scope) >= limit
end

-- The generic cell rate algorithm (ATM Forum, 1996): a whole minute's requests at once, then one each time one is due.
-- None is ever due later than in a minute: what lies further ahead was noted before the server's clock was set back.
local function due_at(name, per_minute)
  local due = tonumber(redis.call('GET', key('rate', name)) or '0')
  if due > now + MINUTE then due = 0 end
  return math.max(due, now) + MINUTE / per_minute
end

local scopes = {{key('active', tenant), tenant, ''}}
if owner ~= NOBODY then scopes[2] = {key('active', tenant .. '/' .. owner), tenant .. '/' .. owner, 'owner_'} end
-- Not the chat's id: this key may outlive the chat.
local rates = {{tenant .. ':' .. string.sub(redis.sha1hex(tenant .. '/' .. chat), 1, 16), 'chat_per_minute'}}
for _, scope in ipairs(scopes) do rates[#rates + 1] = {scope[2], scope[3] .. 'per_minute'} end
local pace = clock_of(queue, 'pace')
for _, scope in ipairs(scopes) do
  if is_full(scope[1], limits[scope[3] .. 'queued']) then
    return {'limited', scope[3] .. 'queued', math.max(1000, math.floor(pace))}
  end
  if is_too_large(scope[2], 0, limits[scope[3] .. 'bytes'], now) then
    return limited_bytes(scope[3] .. 'bytes', scope[2], look_at, now)
  end
end
local dues = {}
for i, rate in ipairs(rates) do
  local per_minute = limits[rate[2]]
  if per_minute <= 0 then return {'limited', rate[2], MINUTE} end
  dues[i] = due_at(rate[1], per_minute)
  local early = dues[i] - now - MINUTE
  if early > 0 then return {'limited', rate[2], math.ceil(early)} end
end
for i, rate in ipairs(rates) do
  redis.call('SET', key('rate', rate[1]), string.format('%.3f', dues[i]), 'PX', math.ceil(dues[i] - now) + 1000)
end

local ttl, active = unpack(redis.call('HMGET', key('policy', tenant), 'ttl', 'active'))
local asked_before, kept_ms = {}, math.max(place_ms, tonumber(ttl) or 0)
for i, scope in ipairs(scopes) do asked_before[i] = list_chat(scope[2], chat, kept_ms, now) end
if scopes[2] then asked_before[3] = touch(scopes[2][2], chat, kept_ms, now) end

redis.call('SET', KEYS[1], place_text, 'PX', place_ms)
put(KEYS[2], now, member)
local expired = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - INDEX_MS, 'LIMIT', 0, EXPIRED_MAX)
if #expired > 0 then redis.call('ZREM', KEYS[2], unpack(expired)) end

local at_once = redis.call('EXISTS', key('lines', queue, PRIORITIES[1]), key('lines', queue, PRIORITIES[2])) == 0
  and room_of(queue, ahead, now) > 0
  and may_run(scopes[1][1], limits.running)
  and (owner == NOBODY or may_run(scopes[2][1], limits.owner_running))
if at_once then send(member, place, now) else note_state(member, place, WAITING) end
return {'reserved', at_once and 1 or 0, tonumber(ttl) or '', limits.chat_bytes, tonumber(active) or '', now,
  redis.call('ZSCORE', key('outcome_tenants'), tenant) and 1 or 0, unpack(asked_before)}
