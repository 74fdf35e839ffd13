-- append.lua: a batch of one attempt enters the log, once. Without events it is the heartbeat.
--
-- KEYS  1-7 as in prelude.lua   8 request (kept as long as the generation; the gen key again when there is no request id)
-- ARGV  1 generation id   2 attempt   3 index of the first event (1, 2, … per attempt)   4 lease ms
--       5 ending: '' | completed | stopped | failed (the last event then is that ending)
--         | released | abandoned: none, the attempt gives the generation up, and the next claim need not wait for its
--           lease; an abandoned one counts towards the attempts, a released one does not
--       6… events, JSON
-- Returns {'ok', first seq, last seq, stop asked 0|1, status, bytes, ms, ms, ages}: the last six with an ending that was
--         written: what the log takes then, the time, and in how many ms it expires. A batch that is already there returns
--         its old seqs (0, 0 where it is older than RUNS_BYTES remember); of one that overlaps, only the new events are
--         written.
--         A heartbeat returns seqs 0, 0.
--         Where a stop was asked, the ending written is its generation.stopped, also instead of a release.
--         {'fenced', attempt} a newer attempt has it | {'ended', status} | {'gone'} | {'gap', index expected}
-- Maximum: 256 events, together 256 KB, and a piece of text of 43,000 characters more (buffer.py).
--
-- Indexes and ARGV: the batch holds the indexes index … index + n - 1, in ARGV[6] … ARGV[5 + n]. The log holds those up
-- to `known`, so the first new one is known + 1, which stands in ARGV[6 + (known + 1) - index].
local FIRST_EVENT, RUNS_BYTES = 6, 2048
local id, attempt, index, lease_ms, ending = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local n, now = #ARGV - FIRST_EVENT + 1, now_ms()
local status, current, known, stop_event, ttl, newest, newest_at, log, touched = unpack(redis.call(
  'HMGET', KEYS[6], 'status', 'attempt', 'index', 'stop', 'ttl', 'seq', 'at', 'log', 'touched'))
if not status then return gone(id) end
if tonumber(current) ~= attempt then return {'fenced', tonumber(current)} end
known, ttl, newest = tonumber(known), tonumber(ttl), tonumber(newest)
local stop_asked = stop_event and 1 or 0

-- runs: "index:seq index:seq …", one pair for each stretch that no other writer of the chat has split. A producer has
-- one batch under way, so only the newest stretches can be asked for.
local function seq_of(i)
  local seq = 0
  for from, at in string.gmatch(redis.call('HGET', KEYS[6], 'runs'), '(%d+):(%d+)') do
    if tonumber(from) > i then break end
    seq = at + i - from
  end
  return seq
end

if n > 0 and index + n - 1 <= known then return {'ok', seq_of(index), seq_of(index + n - 1), stop_asked, status} end
if ENDED[status] then return {'ended', status} end
if index > known + 1 then return {'gap', known + 1} end
-- A heartbeat has no events to number: whatever index it says, it stands at the end.
if n == 0 then index = known + 1 end

-- TTLs are renewed once in a hundredth of their length: renewed each time they would be half of a call's work. A time
-- that lies ahead was written before the server's clock was set back.
local function renew(at_once)
  local long = running_ttl(ttl, lease_ms)
  local age = now - (tonumber(touched) or 0)
  if not at_once and age >= 0 and age < long / 100 then return end
  keep_chat(long)
  redis.call('PEXPIRE', KEYS[6], long)
  redis.call('HSET', KEYS[6], 'touched', now)
  list_generation(id, long, now)
  keep(KEYS[8], long)
  -- `head` was evicted, or is of a version that gave its log no identity.
  if log and redis.call('HEXISTS', KEYS[3], 'log') == 0 then
    redis.call('HSET', KEYS[3], 'log', log)
    set_active(id, true)
    keep_chat(long)
  end
end

local first_new, lease, gives_up = FIRST_EVENT + known + 1 - index, now + lease_ms, false
if ending == 'released' or ending == 'abandoned' then
  -- A stop goes before it: its event becomes one more of the batch.
  if stop_event then ARGV[#ARGV + 1] = stop_event
  else
    gives_up, lease = ending, now
    ending = ''
  end
end
if ending ~= '' and stop_event then
  ending, ARGV[#ARGV] = 'stopped', stop_event
end
local nothing_new = #ARGV < first_new
if ending ~= '' then
  check_before_write()
  redis.call('MEMORY', 'USAGE', KEYS[2]) -- whether the user may, is asked before the first write
end
if ending ~= '' or stop_event or gives_up or nothing_new then
  begin_even_if_full(KEYS[6], running_ttl(ttl, lease_ms))
end
if gives_up == 'released' then redis.call('HSET', KEYS[6], 'released', attempt) end
if nothing_new then
  redis.call('HSET', KEYS[6], 'lease', lease, 'lease_ms', lease_ms)
  renew(false)
  return {'ok', 0, 0, stop_asked, status}
end

local first, last, its_log, made = write(ARGV, first_new, now, id, {log = log, seq = newest, at = newest_at})
redis.call('HSET', KEYS[6], 'index', index + n - 1, 'seq', last, 'at', string.format('%.0f', now), 'lease', lease)
if its_log ~= log then redis.call('HSET', KEYS[6], 'log', its_log) end
if known == 0 or first ~= newest + 1 then
  local runs = redis.call('HGET', KEYS[6], 'runs') .. string.format('%.0f:%.0f ', known + 1, first)
  if #runs > RUNS_BYTES then runs = string.match(runs, ' (.+)', #runs - RUNS_BYTES / 2) end
  redis.call('HSET', KEYS[6], 'runs', runs)
end
local lived, asked, wanted
if ending ~= '' then
  keep_chat(ttl)
  keep(KEYS[8], ttl)
  lived, asked, wanted = close(KEYS[6], id, ending, ttl, now)
  status = ending
else
  renew(made)
end
if index <= known then first = seq_of(index) end
if ending == '' then return {'ok', first, last, stop_asked, status} end
local bytes = redis.call('MEMORY', 'USAGE', KEYS[2])
return {'ok', first, last, stop_asked, status, bytes, now, redis.call('PTTL', KEYS[2]), lived, asked, wanted}
