-- append.lua: a batch of one attempt enters the log, once. Without events it is the heartbeat.
--
-- KEYS  1-6 as in prelude.lua
-- ARGV  1 generation id   2 attempt   3 index of the first event (1, 2, … per attempt)   4 lease ms
--       5 ending: '' | completed | stopped | failed (the last event then is that ending)
--         | released: none, the attempt gives the generation up, and the next claim need not wait for its lease
--       6… events, JSON
-- Returns {'ok', first seq, last seq, stop asked 0|1, status}: a batch that is already there returns its old seqs;
--         of one that overlaps, only the new events are written. A heartbeat returns seqs 0, 0.
--         Where a stop was asked, the ending written is its generation.stopped, also instead of a release.
--         {'fenced', attempt} a newer attempt has it | {'ended', status} | {'gone'} | {'gap', index expected}
--
-- Indexes and ARGV: the batch holds the indexes index … index + n - 1, in ARGV[6] … ARGV[5 + n]. The log holds those up
-- to `known`, so the first new one is known + 1, which stands in ARGV[6 + (known + 1) - index].
local FIRST_EVENT = 6
local id, attempt, index, ending = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[5]
local n, now = #ARGV - FIRST_EVENT + 1, now_ms()
local status, current, known, stop_event, ttl, newest, touched =
  unpack(redis.call('HMGET', KEYS[6], 'status', 'attempt', 'index', 'stop', 'ttl', 'seq', 'touched'))
if not status then return {'gone'} end
if tonumber(current) ~= attempt then return {'fenced', tonumber(current)} end
known, ttl = tonumber(known), tonumber(ttl)
local stop_asked = stop_event and 1 or 0

-- runs: "index:seq index:seq …", one pair for each stretch that no other writer of the chat has split.
local function seq_of(i)
  local seq
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

-- TTLs are renewed once in a hundredth of their length: renewed each time they would be half of a call's work.
local function renew()
  if now - (tonumber(touched) or 0) < ttl / 100 then return end
  keep_chat(ttl)
  redis.call('PEXPIRE', KEYS[6], ttl)
  redis.call('HSET', KEYS[6], 'touched', now)
end

local first_new, lease, released = FIRST_EVENT + known + 1 - index, now + tonumber(ARGV[4]), false
if ending == 'released' then
  -- A stop goes before a release: its event becomes one more of the batch.
  if stop_event then ARGV[#ARGV + 1] = stop_event
  else ending, lease, released = '', now, true end
end
if ending ~= '' and stop_event then
  ending, ARGV[#ARGV] = 'stopped', stop_event
end
local nothing_new = #ARGV < first_new
if ending ~= '' then check_types() end
if ending ~= '' or stop_event or released or nothing_new then begin_even_if_full(KEYS[6], ttl) end
if released then redis.call('HSET', KEYS[6], 'released', attempt) end
if nothing_new then
  redis.call('HSET', KEYS[6], 'lease', lease)
  renew()
  return {'ok', 0, 0, stop_asked, status}
end

local first, last = write(ARGV, first_new, now)
redis.call('HSET', KEYS[6], 'index', index + n - 1, 'seq', last, 'lease', lease)
if known == 0 or first ~= tonumber(newest) + 1 then
  local runs = redis.call('HGET', KEYS[6], 'runs')
  redis.call('HSET', KEYS[6], 'runs', runs .. string.format('%.0f:%.0f ', known + 1, first))
end
if ending ~= '' then
  keep_chat(ttl)
  close(KEYS[6], id, ending, ttl, now)
  status = ending
else
  renew()
end
if index <= known then first = seq_of(index) end
return {'ok', first, last, stop_asked, status}
