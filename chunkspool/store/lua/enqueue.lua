-- enqueue.lua: make a generation and append its generation.queued, or say why not.
--
-- KEYS  1-7 as in prelude.lua
--       8 request (string, "<id> <after> <SHA-1 of the request>"; the gen key again when there is no request id)
--       9 gen of the generation that holds the chat's transcript so far (this one's again when there is none)
--       10… gen of each active generation, in the order of ARGV; of more than AT_ONCE, only of the oldest AT_ONCE
-- ARGV  1 generation id   2 request id or ''   3 on_active: reject | replace | allow | queue   4 ttl ms
--       5 owner or ''     6 request JSON       7 its model, JSON or ''    8 generation.queued JSON
--       9 stops channel   10 queue             11 task
--       12 transcript, JSON or ''
--       13 how many may be active   14 SHA-1 of the request, hex
--       15 ms after which it is no longer wanted, unless it has begun, or 0
--       16 most bytes of the log, or '': the generation ends when its chat has more
--       17 trace context, or ''
--       18 hash of the owner, or ''
--       19 recent as the caller saw it   20 recent with these messages   21 n messages   22 of which the first so many
--          are written only where the log is empty
--       23 1 if somebody waits for its outcome, else 0
--       24… the n messages, JSON; then for each active generation: its id, its generation.stopped JSON (used by replace;
--          none for allow and queue)
-- Returns {'created', after, ages…}, also when this very call comes again: its reply was lost, and the id is its own
--         {'behind', after}: the same, but it is to wait until those before it in the chat have ended (queue; free_next.lua)
--         {'same', id, after} | {'differs', id}: another request had this request id | {'busy', id…}
--         {'changed'}: the active generations, or recent where messages depend on it, are not those in ARGV; read head
--         again and come back
--         {'limit', how many are active, ages…}: as many as may be. Those in ARGV were stopped all the same by replace: some
--         have a worker that is still to hear of it, or there are more than AT_ONCE.
--         ages…: of each generation that this call has ended
-- Maximum: AT_ONCE generations to replace, 64 messages; a request, a transcript and messages of together 1 MB. Of larger
--         ones, each further MB takes one to two ms more: Redis copies it into Lua and out again.
-- Errors: WRONGTYPE where a key is another program's, NOPERM where the user lacks a right: nothing is left then.
local FIRST_MESSAGE, FIRST_GEN = 24, 9
local AT_ONCE, LONGEST_ID, EXPIRED_AT_ONCE, OWNERS_MAX, FRAME_BYTES = 32, 128, 64, 64, 65536
local id, request_id, on_active, ttl = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local owner, request, model, queued_event, stops_channel = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local queue, task, transcript, max_active, request_sha1 = ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13]), ARGV[14]
local request_key, held_by, now = KEYS[8], KEYS[9], now_ms()
local n_messages, n_earlier = tonumber(ARGV[21]), tonumber(ARGV[22])
local FIRST_OTHER = FIRST_MESSAGE + n_messages

local after = redis.call('HGET', KEYS[6], 'after')
if after then return {redis.call('HGET', KEYS[6], 'behind') and 'behind' or 'created', tonumber(after)} end

if request_id ~= '' then
  local made = redis.call('GET', request_key)
  if made then
    -- A key of an older version has no SHA-1.
    local same, its_after, sha1 = string.match(made, '^(%S+) (%d+) ?(%x*)$')
    if sha1 ~= '' and sha1 ~= request_sha1 then return {'differs', same} end
    return {'same', same, tonumber(its_after)}
  end
end

local expected = {}
for i = FIRST_OTHER, #ARGV, 2 do
  expected[#expected + 1] = ARGV[i]
  redis.call('HLEN', KEYS[FIRST_GEN + #expected]) -- fails where it is another program's, before the first write
end
local active, seen = redis.call('HGET', KEYS[3], 'active') or '', table.concat(expected, ' ')
if on_active ~= 'allow' and on_active ~= 'queue' and active ~= seen then
  local are_the_oldest = #expected == AT_ONCE and string.sub(active, 1, #seen + 1) == seen .. ' '
  if not are_the_oldest then return {'changed'} end
end
local log_is_empty = redis.call('EXISTS', KEYS[2]) == 0
local recent = not log_is_empty and redis.call('HGET', KEYS[3], 'recent') or ''
-- Of several messages, the first may be in the log by now.
if n_messages > 0 and recent ~= ARGV[19] then return {'changed'} end
redis.call('HLEN', held_by)
check_before_write()

local busy, left, ended = {'busy'}, {}, {}
for i, other in ipairs(expected) do
  local gen, stopped_event = KEYS[FIRST_GEN + i], ARGV[FIRST_OTHER + 2 * i - 1]
  if redis.call('EXISTS', gen) == 1 then
    if on_active == 'reject' then busy[#busy + 1] = other
    else
      local outcome, _, lived, asked, wanted = unpack(stop(gen, other, stopped_event, stops_channel, now, true))
      if outcome == 'stopping' then left[#left + 1] = other end
      if outcome == 'stopped' then ended[#ended + 1], ended[#ended + 2], ended[#ended + 3] = lived, asked, wanted end
    end
  end
end
if #busy > 1 then return busy end
local still_active = table.concat(left, ' ')
if #left < #expected then
  replace_active(seen, still_active)
  settle_ttl(now)
end
active = redis.call('HGET', KEYS[3], 'active') or ''
if on_active == 'reject' and active ~= '' then return {'changed'} end
if on_active == 'replace' and active ~= still_active then return {'limit', AT_ONCE + 1, unpack(ended)} end
-- So long a list is not gone through.
if #active > max_active * (LONGEST_ID + 1) then return {'limit', max_active + 1, unpack(ended)} end
local _, count = string.gsub(active, '%S+', '')
if count >= max_active then return {'limit', count, unpack(ended)} end

-- An erase takes the chat out of the lists of those who have asked in it.
local function note_owner(hash)
  local owners = redis.call('HGET', KEYS[3], 'owners') or ''
  if hash == '' or find_active(owners, hash) then return end
  owners = owners == '' and hash or owners .. ' ' .. hash
  local _, others = string.gsub(owners, ' ', '')
  if others >= OWNERS_MAX then
    redis.call('ZADD', owners_key(), now, string.match(owners, '^%S+'))
    owners = string.match(owners, ' (.+)')
  end
  redis.call('HSET', KEYS[3], 'owners', owners)
end

-- The event comes last: all before it can be taken back.
local function make()
  redis.call('HSET', KEYS[6], 'status', 'queued', 'attempt', 0, 'index', 0, 'seq', 0, 'runs', '', 'ttl', ttl,
    'created', now, 'owner', owner, 'request_id', request_id, 'request', request, 'model', model,
    'queue', queue, 'task', task, 'publishers', id)
  if tonumber(ARGV[15]) > 0 then redis.call('HSET', KEYS[6], 'expires', now + ARGV[15]) end
  if ARGV[16] ~= '' then redis.call('HSET', KEYS[6], 'log_limit', ARGV[16]) end
  if ARGV[17] ~= '' then redis.call('HSET', KEYS[6], 'trace', ARGV[17]) end
  if ARGV[23] == '1' then redis.call('HSET', KEYS[6], 'outcome', 1) end
  if transcript ~= '' then redis.call('HSET', KEYS[6], 'transcript', transcript) end
  redis.call('PEXPIRE', KEYS[6], ttl)
  local expired = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now, 'LIMIT', 0, EXPIRED_AT_ONCE)
  if #expired > 0 then redis.call('ZREM', KEYS[4], unpack(expired)) end
  list_generation(id, ttl, now)
  if log_is_empty then redis.call('HDEL', KEYS[3], 'pinned', 'kept') end -- they were of a log that has expired
  set_active(id, true)
  local is_behind = on_active == 'queue' and not is_first(id)
  if is_behind then redis.call('HSET', KEYS[6], 'behind', 1) end
  note_owner(ARGV[18])
  keep(KEYS[3], ttl + COUNTER_OUTLIVES)
  local events, bytes = {}, 0
  for i = log_is_empty and 1 or 1 + n_earlier, n_messages do
    events[#events + 1] = ARGV[FIRST_MESSAGE + i - 1]
    bytes = bytes + #ARGV[FIRST_MESSAGE + i - 1]
  end
  events[#events + 1] = queued_event
  local seq = write(events, 1, now, id, {looks = bytes > FRAME_BYTES})
  keep_chat(ttl)
  redis.call('HSET', KEYS[6], 'after', seq - 1)
  if n_messages > 0 then redis.call('HSET', KEYS[3], 'recent', ARGV[20])
  elseif log_is_empty then redis.call('HDEL', KEYS[3], 'recent') end
  if request_id ~= '' then
    local made = string.format('%s %.0f %s', id, seq - 1, request_sha1)
    redis.call('SET', request_key, made, 'PX', ttl)
  end
  if transcript ~= '' then
    -- A transcript says all that the older one says: kept with every generation, they would grow with the square.
    if held_by ~= KEYS[6] then redis.call('HDEL', held_by, 'transcript') end
    redis.call('HSET', KEYS[3], 'transcript', id)
  end
  return {is_behind and 'behind' or 'created', seq - 1, unpack(ended)}
end

local ok, result = pcall(make)
if ok then return result end
pcall(redis.call, 'DEL', KEYS[6])
pcall(redis.call, 'ZREM', KEYS[4], id)
pcall(set_active, id, false)
return type(result) == 'table' and result or {err = tostring(result)}
