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
local id, attempt, index, n, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), #ARGV - 5, now_ms()
local g = redis.call('HMGET', KEYS[6], 'status', 'attempt', 'index', 'stop', 'ttl', 'seq', 'touched')
local status, known, ttl = g[1], tonumber(g[3]), tonumber(g[5])
local asked = g[4] and 1 or 0
if not status then return {'gone'} end
if tonumber(g[2]) ~= attempt then return {'fenced', tonumber(g[2])} end

-- runs: "index:seq index:seq …", one pair for each stretch that no other writer of the chat has split.
local function seq_of(i)
  local seq
  for from, at in string.gmatch(redis.call('HGET', KEYS[6], 'runs'), '(%d+):(%d+)') do
    if tonumber(from) > i then break end
    seq = at + i - from
  end
  return seq
end

if n > 0 and index + n - 1 <= known then return {'ok', seq_of(index), seq_of(index + n - 1), asked, status} end
if ENDED[status] then return {'ended', status} end
if index > known + 1 then return {'gap', known + 1} end
if n == 0 then index = known + 1 end -- that of no events can only tell a gap: a heartbeat says 1

-- TTLs are renewed once in a hundredth of their length: renewed each time they would be half of a call's work.
local function renew()
  if now - (tonumber(g[7]) or 0) < ttl / 100 then return end
  touch(ttl)
  redis.call('PEXPIRE', KEYS[6], ttl)
  redis.call('HSET', KEYS[6], 'touched', now)
end

-- The new events are those of ARGV from here on.
local from, ending, lease, released = 7 + known - index, ARGV[5], now + tonumber(ARGV[4]), false
if ending == 'released' then
  if g[4] then ARGV[#ARGV + 1] = g[4]
  else ending, lease, released = '', now, true end
end
if ending ~= '' and g[4] then
  ending, ARGV[#ARGV] = 'stopped', g[4]
end
if ending ~= '' then sound() end
if ending ~= '' or g[4] or released or #ARGV < from then even_if_full(KEYS[6], ttl) end
if released then redis.call('HSET', KEYS[6], 'released', attempt) end
if #ARGV < from then
  redis.call('HSET', KEYS[6], 'lease', lease)
  renew()
  return {'ok', 0, 0, asked, status}
end

local first, last = write(ARGV, from, now)
redis.call('HSET', KEYS[6], 'index', index + n - 1, 'seq', last, 'lease', lease)
if known == 0 or first ~= tonumber(g[6]) + 1 then
  local runs = redis.call('HGET', KEYS[6], 'runs')
  redis.call('HSET', KEYS[6], 'runs', runs .. string.format('%.0f:%.0f ', known + 1, first))
end
if ending ~= '' then
  touch(ttl)
  close(KEYS[6], id, ending, ttl, now)
  status = ending
else
  renew()
end
if index <= known then first = seq_of(index) end
return {'ok', first, last, asked, status}
