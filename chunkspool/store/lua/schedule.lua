-- schedule.lua: note what became of generations, and take the next out of their lines.
--
-- KEYS  1 unfinished, of any queue: it says which slot of a cluster
-- ARGV  1 ahead   2 default limits "<name> <number> …"   3 most to take out of each queue's lines
--       4 queue that is looked after even where nothing is noted of it
--       5 worker, or ''   6 its slots   7 ms until they are forgotten
--       8 how many of the oldest that seem to wait or to be with workers to look at
--       9… of each: 'wait' | 'behind' (others of its chat) | 'free' (it no longer is) | 'run' | 'end' | 'size' (nothing
--          changed), member, '' or what the log of its chat takes:
--          "<bytes> <ms of the measurement> <ms that it is kept>". At most NOTES_MAX of them
-- Returns {member, queue, task, …}: their messages are the caller's to publish
-- Maximum: 25 notes, each of another log, 15 to take out, 25 of four kinds to look at; 60 lines and 1,000 workers are gone through.
-- Notes may come late, twice or never. Each says what is so now, and the sweep says it again. What the sweep has
-- forgotten is over, whatever a late note says.
local FIRST_NOTE = 9
local ahead, defaults, most, now = tonumber(ARGV[1]), parse_limits(ARGV[2]), tonumber(ARGV[3]), now_ms()
-- A write that takes no memory comes first, so that a full Redis takes the others, too: what ends must free its slot.
redis.call('PEXPIRE', KEYS[1], INDEX_MS)

-- Where a log may only be so long, it is looked at after each ending.
local function note_due_to_retain(tenant, member)
  local kept = limits_of(tenant, {'keep_events', 'keep_bytes'}, defaults)
  if kept.keep_events or kept.keep_bytes then put(key('retention_due'), now, string.match(member, '^%S+ %S+')) end
end

local queues, touched = {ARGV[4]}, {[ARGV[4]] = true}
if ARGV[5] ~= '' then
  local slots = key('slots', ARGV[4])
  if redis.call('HEXISTS', slots, ARGV[5]) == 1 or redis.call('HLEN', slots) < WORKERS_MAX then
    if tonumber(ARGV[6]) > 0 then
      redis.call('HSET', slots, ARGV[5], string.format('%s %.0f', ARGV[6], now + tonumber(ARGV[7])))
      redis.call('PEXPIRE', slots, INDEX_MS)
    else redis.call('HDEL', slots, ARGV[5]) end
  end
end
for i = FIRST_NOTE, #ARGV, 3 do
  local what, member, size = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local place = place_of(member)
  -- A generation without a place was erased with its chat: what was measured before is told too late.
  if place and size ~= '' then note_size(place.tenant, place.owner, string.match(member, ' (%S+) '), size, now) end
  if place and what ~= 'size' then
    local is_known = redis.call('ZSCORE', key('unfinished', place.queue), member)
    if what == 'end' then note_due_to_retain(place.tenant, member) end
    if what == 'end' or not is_known then forget(member, place)
    elseif what == 'wait' then wait(member, place, now)
    elseif what == 'behind' then hold_back(member, place)
    elseif what == 'free' then free(member, place, now)
    else run(member, place, now) end
    if not touched[place.queue] then
      queues[#queues + 1], touched[place.queue] = place.queue, true
    end
  end
end
local looked_at = {key('sent', ARGV[4]), key('running', ARGV[4])}
for _, priority in ipairs(PRIORITIES) do looked_at[#looked_at + 1] = key('queued', ARGV[4], priority) end
for _, zset in ipairs(tonumber(ARGV[8]) > 0 and looked_at or {}) do
  for _, member in ipairs(redis.call('ZRANGE', zset, 0, tonumber(ARGV[8]) - 1)) do
    if not redis.call('ZSCORE', key('unfinished', ARGV[4]), member) then
      local place = place_of(member)
      if place then forget(member, place) else redis.call('ZREM', zset, member) end
    end
  end
end
local reply = {}
for _, queue in ipairs(queues) do
  for _, taken in ipairs(take_out(queue, ahead, most, defaults, now)) do
    for _, word in ipairs(taken) do reply[#reply + 1] = word end
  end
end
return reply
