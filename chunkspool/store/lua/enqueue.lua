-- enqueue.lua: make a generation and append its generation.queued, or say why not.
--
-- KEYS  1-7 as in prelude.lua
--       8 request (string, "<id> <after> <SHA-1 of the request>"; the gen key again when there is no request id)
--       9 gen of the generation that holds the chat's transcript so far (this one's again when there is none)
--       10… gen of each active generation, in the order of ARGV
-- ARGV  1 generation id   2 request id or ''   3 on_active: reject | replace | allow   4 ttl ms
--       5 owner or ''     6 request JSON       7 its model, JSON or ''    8 generation.queued JSON
--       9 stops channel   10 queue             11 task
--       12 transcript, JSON or ''
--       13… for each active generation: its id, its generation.stopped JSON (used by replace; none for allow)
-- Returns {'created', after}, also when this very call comes again: its reply was lost, and the id is its own
--         {'same', id, after} | {'differs', id}: another request had this request id | {'busy', id…}
--         {'changed'}: the active generations are not those in ARGV; read head again and come back
-- Errors: WRONGTYPE where a key is another program's, NOPERM where the user lacks a right: nothing is left then.
local FIRST_OTHER, FIRST_GEN = 13, 9
local id, request_id, on_active, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local owner, request, model, queued_event, stops_channel = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local queue, task, transcript = ARGV[10], ARGV[11], ARGV[12]
local request_key, held_by, now = KEYS[8], KEYS[9], now_ms()

local after = redis.call('HGET', KEYS[6], 'after')
if after then return {'created', tonumber(after)} end

if request_id ~= '' then
  local made = redis.call('GET', request_key)
  if made then
    -- A key of an older version has no SHA-1.
    local same, its_after, sha1 = string.match(made, '^(%S+) (%d+) ?(%x*)$')
    if sha1 ~= '' and sha1 ~= redis.sha1hex(request) then return {'differs', same} end
    return {'same', same, tonumber(its_after)}
  end
end

local expected = {}
for i = FIRST_OTHER, #ARGV, 2 do
  expected[#expected + 1] = ARGV[i]
  redis.call('HLEN', KEYS[FIRST_GEN + #expected]) -- fails where it is another program's, before the first write
end
if on_active ~= 'allow' and (redis.call('HGET', KEYS[3], 'active') or '') ~= table.concat(expected, ' ') then
  return {'changed'}
end
redis.call('HLEN', held_by)
check_before_write()

local busy = {'busy'}
for i, other in ipairs(expected) do
  local gen, stopped_event = KEYS[FIRST_GEN + i], ARGV[FIRST_OTHER + 2 * i - 1]
  if redis.call('EXISTS', gen) == 0 then
    set_active(other, false)
  elseif on_active == 'replace' then
    stop(gen, other, stopped_event, stops_channel, now)
  elseif on_active == 'reject' then
    busy[#busy + 1] = other
  end
end
if #busy > 1 then return busy end

-- The event comes last: all before it can be taken back.
local function make()
  redis.call('HSET', KEYS[6], 'status', 'queued', 'attempt', 0, 'index', 0, 'seq', 0, 'runs', '', 'ttl', ttl,
    'created', now, 'owner', owner, 'request_id', request_id, 'request', request, 'model', model,
    'queue', queue, 'task', task, 'publishers', id)
  if transcript ~= '' then redis.call('HSET', KEYS[6], 'transcript', transcript) end
  redis.call('PEXPIRE', KEYS[6], ttl)
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
  list_generation(id, ttl, now)
  set_active(id, true)
  keep(KEYS[3], ttl + COUNTER_OUTLIVES)
  local seq = append(queued_event, ttl, now, id)
  redis.call('HSET', KEYS[6], 'after', seq - 1)
  if request_id ~= '' then
    local made = string.format('%s %.0f %s', id, seq - 1, redis.sha1hex(request))
    redis.call('SET', request_key, made, 'PX', ttl)
  end
  if transcript ~= '' then
    -- A transcript says all that the older one says: kept with every generation, they would grow with the square.
    if held_by ~= KEYS[6] then redis.call('HDEL', held_by, 'transcript') end
    redis.call('HSET', KEYS[3], 'transcript', id)
  end
  return {'created', seq - 1}
end

local ok, result = pcall(make)
if ok then return result end
pcall(redis.call, 'DEL', KEYS[6])
pcall(redis.call, 'ZREM', KEYS[4], id)
pcall(set_active, id, false)
return type(result) == 'table' and result or {err = tostring(result)}
