-- claim.lua: an attempt takes a generation, or learns why it may not run the model.
--
-- KEYS  1-6 as in prelude.lua
-- ARGV  1 generation id   2 token: this caller's own, so that a repeated call finds its claim again
--       3 lease ms        4 max attempts
--       5, 6, 7 generation.started JSON: before the attempt's number, between it and the model, after the model
--       8 model where the request names none, JSON     9 generation.failed JSON (too many attempts)
--       10 instead of 7 for an attempt that continues an earlier one's text, or '': none does
-- Returns {'claimed', attempt, request JSON} | {'held', ms until the lease ends} | {'stopped', seq}
--         {'failed', seq}: too many attempts      | {'ended', status}             | {'gone'}
-- An attempt that released the generation (append.lua) does not count towards the attempts: nothing went wrong with it.
local id, now = ARGV[1], now_ms()
local g = redis.call('HMGET', KEYS[6], 'status', 'attempt', 'stop', 'lease', 'ttl', 'token', 'request', 'model',
  'released', 'spared')
local status, attempt, ttl = g[1], tonumber(g[2]), tonumber(g[5])
if not status then return {'gone'} end
if ENDED[status] then return {'ended', status} end
if g[6] == ARGV[2] then return {'claimed', attempt, g[7]} end
sound()
if g[3] then
  local _, last = append({g[3]}, ttl, now)
  close(KEYS[6], id, 'stopped', ttl, now)
  return {'stopped', last}
end
if g[4] and tonumber(g[4]) > now then return {'held', tonumber(g[4]) - now} end
local spared = (tonumber(g[10]) or 0) + (tonumber(g[9]) == attempt and 1 or 0)
if attempt - spared >= tonumber(ARGV[4]) then
  local _, last = append({ARGV[9]}, ttl, now)
  close(KEYS[6], id, 'failed', ttl, now)
  return {'failed', last}
end
attempt = attempt + 1
redis.call('HSET', KEYS[6], 'status', 'running', 'attempt', attempt, 'index', 0, 'seq', 0, 'runs', '',
  'token', ARGV[2], 'lease', now + tonumber(ARGV[3]), 'started', now, 'spared', spared)
redis.call('PEXPIRE', KEYS[6], ttl)
remember(id, ttl, now)
local rest = attempt > 1 and ARGV[10] ~= '' and ARGV[10] or ARGV[7]
append({ARGV[5] .. attempt .. ARGV[6] .. (g[8] ~= '' and g[8] or ARGV[8]) .. rest}, ttl, now)
return {'claimed', attempt, g[7]}
