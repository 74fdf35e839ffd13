-- prelude.lua: what every script that writes to a log shares. It is put in front of each of them.
--
-- KEYS  1 seq    string  the chat's counter; outlives the log by COUNTER_OUTLIVES
--       2 log    stream  events: id <seq>-0, fields t (Unix ms) and e (JSON)
--       3 head   hash    active = ids of the generations that have not ended, oldest first, separated by spaces;
--                        born = ms at which seq 1 was written: another one means another log; lives as long as seq
--       4 gens   zset    generation id -> ms at which its hash expires
--       5 live   channel frames: "<first seq> <ms>\n<event>\n<event>…"; a KEY because SPUBLISH on Cluster asks for it
--       6 gen    hash    status, attempt, index, seq, runs, stop, lease, ttl, token, request, model, times;
--                        released = the last attempt that gave it up, spared = how many attempts have
local ENDED = {completed = true, stopped = true, failed = true}
local COUNTER_OUTLIVES = 7 * 86400 * 1000

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Of a chat's generations the one with the longest ttl counts: another one must not take the log from under it.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

local function keep_chat(ttl)
  keep(KEYS[1], ttl + COUNTER_OUTLIVES)
  keep(KEYS[2], ttl)
  keep(KEYS[3], ttl + COUNTER_OUTLIVES)
end

-- Fails where a key of the chat is another program's. Called before the first write, because Redis does not roll a
-- script back: an error later would leave half of it.
local function check_types()
  local seq = redis.call('GET', KEYS[1])
  local n = tonumber(seq or '0') or -1
  if n < 0 or n > 2 ^ 53 or (seq and seq ~= string.format('%.0f', n)) then
    error('WRONGTYPE the counter is not a whole number')
  end
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if seq and newest and tonumber(string.match(newest[1], '^%d+')) > n then
    error('WRONGTYPE the log is ahead of its counter')
  end
  redis.call('HLEN', KEYS[3])
  redis.call('ZCARD', KEYS[4])
end

-- The counter was lost (evicted, deleted by hand) while the log stands: continue after the log, never again at 1.
local function restore_counter(n)
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if not newest then return n end
  return redis.call('INCRBY', KEYS[1], (string.match(newest[1], '^%d+')))
end

-- Numbers the events (those of the list from `from` on), stores them and publishes their frame; returns the first and
-- the last seq. It renews no TTL. Written for speed: with XADD it is nearly all that a batch costs.
local function write(events, from, now)
  local call, log, n, ms = redis.call, KEYS[2], #events - from + 1, string.format('%.0f', now)
  local last = call('INCRBY', KEYS[1], n)
  if last == n then last = restore_counter(n) end
  local before = last - n
  -- An id without a dash has -0. Redis writes the number in full, as Lua's own `..` would not from 10^14 on.
  local written = redis.pcall('XADD', log, before + 1, 't', ms, 'e', events[from])
  if type(written) == 'table' and written.err then
    -- Only the first can fail: the log is not ours, or is ahead of the counter. Its seqs are returned to the counter.
    call('DECRBY', KEYS[1], n)
    error(written.err)
  end
  for i = 2, n do call('XADD', log, before + i, 't', ms, 'e', events[from + i - 1]) end
  if before == 0 then call('HSET', KEYS[3], 'born', ms) end
  call('PUBLISH', KEYS[5], string.format('%.0f %s\n', before + 1, ms) .. table.concat(events, '\n', from))
  return before + 1, last
end

local function append(events, ttl, now)
  local first, last = write(events, 1, now)
  keep_chat(ttl)
  return first, last
end

local function set_active(id, active)
  local ids = {}
  for other in string.gmatch(redis.call('HGET', KEYS[3], 'active') or '', '%S+') do
    if other ~= id then ids[#ids + 1] = other end
  end
  if active then ids[#ids + 1] = id end
  if #ids > 0 then redis.call('HSET', KEYS[3], 'active', table.concat(ids, ' '))
  else redis.call('HDEL', KEYS[3], 'active') end
end

-- Lists the generation: by the list, erase finds it.
local function list_generation(id, ttl, now)
  redis.call('ZADD', KEYS[4], now + ttl, id)
  keep(KEYS[4], ttl)
end

-- Redis refuses a script only at its *first* write, if that takes memory. A script that begins with this one may write
-- on while Redis is full: a stop, an ending and a heartbeat must not fail.
local function begin_even_if_full(gen, ttl)
  redis.call('PEXPIRE', gen, ttl)
end

-- The generation's last write: after it, nothing of the generation is appended any more.
local function close(gen, id, status, ttl, now)
  redis.call('HSET', gen, 'status', status, 'ended', now)
  redis.call('HDEL', gen, 'lease')
  redis.call('PEXPIRE', gen, ttl)
  list_generation(id, ttl, now)
  set_active(id, false)
end

-- Stops one generation with its ready-made generation.stopped: at once where no attempt is alive, else it asks.
local function stop(gen, id, event, channel, now)
  local status, lease, ttl, stop_event = unpack(redis.call('HMGET', gen, 'status', 'lease', 'ttl', 'stop'))
  if not status then return {'gone'} end
  if ENDED[status] then return {'ended', status} end
  ttl = tonumber(ttl)
  check_types()
  begin_even_if_full(gen, ttl)
  if status == 'queued' or (tonumber(lease) or 0) <= now then
    -- The event of whoever asked first is the one that counts: `by` and `reason` are theirs.
    local _, last = append({stop_event or event}, ttl, now)
    close(gen, id, 'stopped', ttl, now)
    return {'stopped', last}
  end
  redis.call('HSETNX', gen, 'stop', event)
  redis.call('PUBLISH', channel, id)
  return {'stopping'}
end

