-- claim.lua: an attempt claims a generation, or learns why it may not run the model.
--
-- KEYS  1-7 as in prelude.lua
-- ARGV  1 generation id   2 token: this caller's own, so that a repeated call finds its claim again
--       3 lease ms        4 max attempts
--       5, 6, 7 generation.started JSON: before the attempt's number, between it and the model, after the model
--       8 model where the request names none, JSON     9 generation.failed JSON (too many attempts)
--       10 instead of 7 for an attempt that continues an earlier one's text, or '': none does
--       11 generation.failed JSON (it has waited for too long)
--       12 context of this attempt's span in the generation's trace, or ''
-- Returns {'claimed', attempt, request JSON, request id or '', bytes that the log may still grow by, or '', ms since it
--         could begin, 1 if an earlier attempt has said something, else 0}
--         {'held', ms until the lease ends} | {'stopped', seq, ages} | {'ended', status} | {'gone'}
--         {'behind'}: others that were asked before it in the chat have not ended; its message came too early
--         {'failed', seq, ages, 'too_many_attempts' | 'expired'}
-- Maximum: a request of 1 MB.
-- An attempt that released the generation (append.lua) does not count towards the attempts, because nothing went wrong
-- with it; but not more than SPARED_MAX of them, or a worker that is restarted for ever would pay for ever.
local SPARED_MAX = 20
local id, token, lease_ms, max_attempts = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local before_attempt, after_attempt, after_model = ARGV[5], ARGV[6], ARGV[7]
local default_model, failed_event, after_model_continuing = ARGV[8], ARGV[9], ARGV[10]
local now = now_ms()
local status, attempt, stop_event, lease, last_lease_ms, ttl, last_token, request, request_id, model, released, spared,
  expires, log_limit, created, index, spoke, behind, freed =
  unpack(redis.call('HMGET', KEYS[6], 'status', 'attempt', 'stop', 'lease', 'lease_ms', 'ttl', 'token', 'request',
  'request_id', 'model', 'released', 'spared', 'expires', 'log_limit', 'created', 'index', 'spoke', 'behind', 'freed'))
if not status then return gone(id) end
if ENDED[status] then return {'ended', status} end
attempt, ttl, lease = tonumber(attempt), tonumber(ttl), tonumber(lease)
-- A generation of an older version has no limit.
local age = now - (tonumber(freed) or tonumber(created) or now)
local room = log_limit and math.max(0, tonumber(log_limit) - (redis.call('MEMORY', 'USAGE', KEYS[2]) or 0)) or ''
if last_token == token then return {'claimed', attempt, request, request_id or '', room, age, spoke or 0} end
check_before_write()
if stop_event then
  local last = append(stop_event, ttl, now, id)
  return {'stopped', last, close(KEYS[6], id, 'stopped', ttl, now)}
end
if is_alive(lease, tonumber(last_lease_ms), now) then return {'held', lease - now} end
spared = math.min((tonumber(spared) or 0) + (tonumber(released) == attempt and 1 or 0), SPARED_MAX)
local is_late = has_expired(expires, attempt, now)
if is_late or attempt - spared >= max_attempts then
  local last = append(is_late and ARGV[11] or failed_event, ttl, now, id)
  local lived, asked, wanted = close(KEYS[6], id, 'failed', ttl, now)
  return {'failed', last, lived, asked, wanted, is_late and 'expired' or 'too_many_attempts'}
end
if behind and attempt == 0 and not is_first(id) then return {'behind'} end
attempt = attempt + 1
spoke = (spoke == '1' or (tonumber(index) or 0) > 0) and 1 or 0
local long = running_ttl(ttl, lease_ms)
redis.call('HSET', KEYS[6], 'status', 'running', 'attempt', attempt, 'index', 0, 'seq', 0, 'runs', '',
  'token', token, 'lease', now + lease_ms, 'lease_ms', lease_ms, 'started', now, 'spared', spared, 'spoke', spoke)
if ARGV[12] ~= '' then redis.call('HSET', KEYS[6], 'span', ARGV[12]) end
if behind then redis.call('HDEL', KEYS[6], 'behind') end
redis.call('PEXPIRE', KEYS[6], long)
list_generation(id, long, now)
set_active(id, true) -- `head` may have been evicted since the enqueue
if model == '' then model = default_model end
if attempt > 1 and after_model_continuing ~= '' then after_model = after_model_continuing end
local last, log = append(before_attempt .. attempt .. after_attempt .. model .. after_model, long, now, id)
-- The attempt's first batch usually follows its own start: it then knows what stands before it.
redis.call('HSET', KEYS[6], 'log', log, 'seq', last, 'at', string.format('%.0f', now))
redis.call('HSETNX', KEYS[6], 'began', last) -- up to there, every attempt reads the conversation
return {'claimed', attempt, request, request_id or '', room, age, spoke}
