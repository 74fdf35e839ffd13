-- prelude.lua: what every script that writes to a log shares. It is put in front of each of them.
--
-- While a script runs, nobody else is served. So each does a bounded amount of work, which its header states, and needs
-- at most 5 ms for it, also where an older version has left 6,000 active generations (test_scripts_are_short.py).
--
-- KEYS  1 seq     string  the chat's counter; outlives the log by COUNTER_OUTLIVES
--       2 log     stream  events: id <seq>-0, fields t (Unix ms) and e (JSON)
--       3 head    hash    active = ids of the generations that have not ended, oldest first, separated by spaces;
--                         log = the log's identity, random, made with seq 1: another one means another log;
--                         born = ms at which seq 1 was written; lives as long as seq;
--                         transcript = id of the generation that holds the chat's transcript;
--                         recent = keys of the messages that the log got last, at most 64 of 10 digits;
--                         owners = hashes of those who have asked in it, in whose lists it is; the last OWNERS_MAX, while
--                         the others are in the zset `owners`;
--                         kept = ms until which the chat is kept at least: a fork, or by keep.lua;
--                         ttl = ms that the chat is kept after what is asked in it, unless that says something else;
--                         pinned = 1: it is kept for good
--       4 gens    zset    generation id -> ms at which its hash expires
--       5 live    channel frames: "<first seq> <ms> <log> <ms of the event before>\n<event>\n<event>…", NO_FRAME, or
--                         LOOK; a KEY because SPUBLISH on Cluster asks for it
--       6 gen     hash    status, attempt, index, seq, at, runs, stop, lease, lease_ms, ttl, token, request, model,
--                         log, queue, task, times; stop_at = ms at which a stop was first asked; spoke = an attempt
--                         before this one has said something; released = the last attempt that gave it up without counting,
--                         spared = how many attempts did; transcript = the conversation as its client shows it;
--                         began = seq of its first generation.started;
--                         trace, span = contexts of the enqueue and of the newest attempt in a trace;
--                         behind = 1 while it waits for those that were asked before it in the chat (on_active = queue);
--                         freed = ms at which they had ended, and it could begin
--       7 readers hash    reader -> the seq up to which it has read; lives as long as seq
local ENDED = {completed = true, stopped = true, failed = true}
local COUNTER_OUTLIVES = 7 * 86400 * 1000
local NO_FRAME, LOOK = '.', '0 0\n' -- nothing to see; "read the log", also after an erase
local NO_STOP = '.' -- no generation's id: stops nothing

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Of a chat's generations the one with the longest ttl counts: another one must not take the log from under it.
local function keep(key, ttl)
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
end

-- Keys of the chat beside its head. Title and further owners: few scripts have to do with them. A generation: only head
-- says which.
local function title_key() return string.sub(KEYS[3], 1, -5) .. 'title' end
local function owners_key() return string.sub(KEYS[3], 1, -5) .. 'owners' end
local function gen_key(id) return string.sub(KEYS[3], 1, -5) .. 'gen:' .. id end

local function keep_chat(ttl)
  keep(title_key(), ttl)
  keep(KEYS[1], ttl + COUNTER_OUTLIVES)
  keep(KEYS[2], ttl)
  keep(KEYS[3], ttl + COUNTER_OUTLIVES)
  keep(KEYS[7], ttl + COUNTER_OUTLIVES)
  keep(owners_key(), ttl + COUNTER_OUTLIVES)
end

-- A running generation outlives its heartbeats, however short its chat is to be kept after its last event.
local function running_ttl(ttl, lease_ms)
  return math.max(ttl, 3 * lease_ms)
end

-- A lease that ends later than it is long was written before the server's clock was set back: it tells nothing.
local function is_alive(lease, lease_ms, now)
  return lease ~= nil and lease > now and (lease_ms == nil or lease <= now + lease_ms)
end

-- Whoever asked wants it no more: it has waited for longer than they said.
local function has_expired(expires, attempt, now)
  return tonumber(attempt) == 0 and expires and now >= tonumber(expires)
end

-- Fails where a key of the chat is another program's, or where the user may not publish. Called before the first write,
-- because Redis does not roll a script back: an error later would leave half of it.
local function check_before_write()
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
  redis.call('HLEN', KEYS[7])
  redis.call('PUBLISH', KEYS[5], NO_FRAME)
end

-- The log's newest entry: its seq and its ms, or nil.
local function newest_entry()
  local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
  if newest then return tonumber(string.match(newest[1], '^%d+')), newest[2][2] end
end

-- The counter was lost (evicted, deleted by hand) while the log stands: continue after the log, never again at 1.
local function restore_counter(n)
  local newest = newest_entry()
  if not newest then return n end
  return redis.call('INCRBY', KEYS[1], string.format('%.0f', newest))
end

-- A new identity where the log begins. The generation's id is random, so no two logs have the same one.
local function new_log(id, ms)
  local log = string.sub(redis.sha1hex(id .. ' ' .. ms), 1, 12)
  redis.call('HSET', KEYS[3], 'log', log, 'born', ms)
  return log
end

local function take_back(n)
  if redis.call('DECRBY', KEYS[1], n) == 0 then redis.call('DEL', KEYS[1]) end
end

-- Numbers the events (those of the list from `from` on), stores them and publishes their frame; returns the first and
-- the last seq, the log's identity, and whether a key was made that needs a TTL. `known` is what the generation's hash
-- knows: its log, and seq and at of its own newest event, which usually is the log's newest; `known.looks`: readers are to
-- read the events from the log, because these are too large to be copied for a frame.
-- Written for speed: with XADD it is nearly all that a batch costs.
local function write(events, from, now, id, known)
  local call, stream, n, ms = redis.call, KEYS[2], #events - from + 1, string.format('%.0f', now)
  local last = call('INCRBY', KEYS[1], n)
  local made = last == n
  if made then last = restore_counter(n) end
  local before = last - n
  local previous = known.at
  if before == 0 then previous = '0'
  elseif before ~= known.seq or not previous then
    local seq, at = newest_entry()
    previous = seq == before and at or '0'
  end
  -- An id without a dash has -0. Redis writes the number in full, as Lua's own `..` would not from 10^14 on.
  local written = redis.pcall('XADD', stream, 'NOMKSTREAM', before + 1, 't', ms, 'e', events[from])
  if not written then
    made = true
    written = redis.pcall('XADD', stream, before + 1, 't', ms, 'e', events[from])
  end
  if type(written) == 'table' and written.err then
    -- Only the first can fail: the log is not ours, is ahead of the counter, or may not be written. Give the seqs back.
    take_back(n)
    error(written.err)
  end
  for i = 2, n do call('XADD', stream, before + i, 't', ms, 'e', events[from + i - 1]) end
  local log = known.log
  if before == 0 then log = new_log(id, ms)
  elseif not log then log = call('HGET', KEYS[3], 'log') or new_log(id, ms) end
  local frame = LOOK
  if not known.looks then
    frame = string.format('%.0f %s %s %s\n', before + 1, ms, log, previous) .. table.concat(events, '\n', from)
  end
  call('PUBLISH', KEYS[5], frame)
  return before + 1, last, log, made
end

-- Writes a single event of whoever is not an attempt; returns its seq and the log's identity.
local function append(event, ttl, now, id)
  local _, last, log = write({event}, 1, now, id, {})
  keep_chat(ttl)
  return last, log
end

-- Where the id, or a stretch of ids, stands among the active ones; nil where it does not. Not by a search with spaces around
-- both: of a crowd of thousands, each copy takes Redis a quarter of a millisecond.
local SPACE = 32
local function find_active(ids, id)
  local from, to = string.find(ids, id, 1, true)
  while from and id ~= '' do
    local before, after = string.byte(ids, from - 1), string.byte(ids, to + 1)
    if (before or SPACE) == SPACE and (after or SPACE) == SPACE then return from, to end
    from, to = string.find(ids, id, from + 1, true)
  end
end

local function write_active(ids)
  if ids ~= '' then redis.call('HSET', KEYS[3], 'active', ids) else redis.call('HDEL', KEYS[3], 'active') end
end

-- Puts `left` in the place of a stretch of the active ids; tells whether they have that stretch. By searching, not by
-- going through the ids: older versions let a chat have thousands of active generations.
local function replace_active(stretch, left)
  local ids = redis.call('HGET', KEYS[3], 'active') or ''
  local from, to = find_active(ids, stretch)
  if not from then return false end
  local rest = string.sub(ids, 1, math.max(from - 2, 0))
  for _, part in ipairs({left, string.sub(ids, to + 2)}) do
    if rest == '' then rest = part elseif part ~= '' then rest = rest .. ' ' .. part end
  end
  write_active(rest)
  return true
end

local function set_active(id, active)
  if not active then return replace_active(id, '') end
  local ids = redis.call('HGET', KEYS[3], 'active') or ''
  if not find_active(ids, id) then write_active(ids == '' and id or ids .. ' ' .. id) end
end

-- Whether all that were asked before it in the chat have ended. Where `head` was evicted and does not list it, that is not
-- known: no. One whose hash is gone holds nobody up.
local ACTIVE_LOOKED_AT = 64
local function is_first(id)
  local ids, looked_at = redis.call('HGET', KEYS[3], 'active') or '', 0
  local from = find_active(ids, id)
  if not from then return false end
  for other in string.gmatch(string.sub(ids, 1, from - 1), '%S+') do
    looked_at = looked_at + 1
    local status = redis.call('HGET', gen_key(other), 'status')
    if looked_at > ACTIVE_LOOKED_AT or (status and not ENDED[status]) then return false end
  end
  return true
end

-- The generation's hash has expired or was evicted. Nobody is to wait for it.
local function gone(id)
  if find_active(redis.call('HGET', KEYS[3], 'active') or '', id) then
    redis.call('PUBLISH', KEYS[5], LOOK)
    set_active(id, false)
  end
  return {'gone'}
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

-- While it ran, the generation has kept the chat for longer than its ttl says. Of all the chat's generations, the one
-- that is kept longest counts; a fork has none of what it was made with.
local function settle_ttl(now)
  local newest = redis.call('ZREVRANGE', KEYS[4], 0, 0, 'WITHSCORES')
  local kept = redis.call('HGET', KEYS[3], 'kept') or '0'
  local ttl = math.max(tonumber(newest[2] or '0'), tonumber(kept)) - now
  if ttl <= 0 then return end
  for _, key in ipairs({KEYS[2], KEYS[4], title_key()}) do redis.call('PEXPIRE', key, ttl) end
  for _, key in ipairs({KEYS[1], KEYS[3], KEYS[7], owners_key()}) do redis.call('PEXPIRE', key, ttl + COUNTER_OUTLIVES) end
end

-- For how many ms the generation has lived, and for how many a stop has been asked; -1 where that is not known.
local function ages(gen, now)
  local created, asked = unpack(redis.call('HMGET', gen, 'created', 'stop_at'))
  created, asked = tonumber(created), tonumber(asked)
  return created and now - created or -1, asked and now - asked or -1
end

-- The outbox (hash) stands beside the chat's head, too: of each generation that has ended and whose outcome is wanted,
-- "<status> <attempt> <created> <started> <after> <last> <ended> <owner> <request id>", until a relay has told it.
local OUTBOX_MS, ABSENT = 7 * 86400 * 1000, '/' -- no id is this
local function outbox_key() return string.sub(KEYS[3], 1, -5) .. 'outbox' end

-- Marks, in the script that ends a generation, that its outcome is still to be told; tells whether it is wanted at all.
local function mark_outcome(gen, id)
  local wanted, status, attempt, created, started, after, ended, owner, request_id = unpack(redis.call('HMGET', gen,
    'outcome', 'status', 'attempt', 'created', 'started', 'after', 'ended', 'owner', 'request_id'))
  if not wanted then return 0 end
  local words = {status, attempt, created or 0, started or 0, after or 0, redis.call('GET', KEYS[1]) or 0, ended,
    owner, request_id}
  for i = 8, 9 do
    if not words[i] or words[i] == '' then words[i] = ABSENT end
  end
  redis.call('HSET', outbox_key(), id, table.concat(words, ' '))
  keep(outbox_key(), OUTBOX_MS)
  redis.call('HDEL', gen, 'outcome')
  return 1
end

-- The generation's last write: after it, nothing of the generation is appended any more. Nobody needs what it was asked.
-- Of `one_of_many` the caller itself takes it out of the active ones and settles the TTLs, once for all.
-- Returns its ages, and 1 if its outcome is to be told, else 0.
local function close(gen, id, status, ttl, now, one_of_many)
  redis.call('HSET', gen, 'status', status, 'ended', now)
  redis.call('HDEL', gen, 'lease', 'request', 'model', 'token', 'trace', 'span', 'began', 'behind')
  redis.call('PEXPIRE', gen, ttl)
  list_generation(id, ttl, now)
  local wanted = mark_outcome(gen, id)
  if not one_of_many then
    set_active(id, false)
    settle_ttl(now)
  end
  local lived, asked = ages(gen, now)
  return lived, asked, wanted
end

-- Stops one generation with its ready-made generation.stopped: at once where no attempt is alive, else it asks.
-- Of `one_of_many` the caller has called check_before_write, too, and does what `close` leaves to it.
local function stop(gen, id, event, channel, now, one_of_many)
  local status, lease, lease_ms, ttl, stop_event =
    unpack(redis.call('HMGET', gen, 'status', 'lease', 'lease_ms', 'ttl', 'stop'))
  if not status then return gone(id) end
  if ENDED[status] then return {'ended', status} end
  ttl, lease_ms = tonumber(ttl), tonumber(lease_ms)
  if not one_of_many then check_before_write() end
  if status == 'queued' or not is_alive(tonumber(lease), lease_ms, now) then
    begin_even_if_full(gen, ttl)
    -- The event of whoever asked first is the one that counts: `by` and `reason` are theirs.
    local last = append(stop_event or event, ttl, now, id)
    return {'stopped', last, close(gen, id, 'stopped', ttl, now, one_of_many)}
  end
  -- Whether it may publish there is asked first; the push comes last. A server that refuses writes (a demoted one, one
  -- whose snapshot failed) would publish all the same: the attempt would stop, and nobody would know who wanted that.
  redis.call('PUBLISH', channel, NO_STOP)
  begin_even_if_full(gen, running_ttl(ttl, lease_ms or 0))
  if redis.call('HSETNX', gen, 'stop', event) == 1 then redis.call('HSET', gen, 'stop_at', now) end
  redis.call('PUBLISH', channel, id)
  return {'stopping'}
end

