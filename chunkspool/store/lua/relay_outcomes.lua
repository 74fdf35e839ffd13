-- relay_outcomes.lua: outcomes enter the tenant's stream, each once, whoever brings it how often.
--
-- KEYS  as in outcomes_prelude.lua
-- ARGV  1 ms at which the caller read the outbox   2 most bytes of the stream
--       3… for each: generation, hashes of its chat and of its owner, ms of its ending, chat, JSON. At most RELAYED_AT_ONCE (store/outcomes.py)
-- Returns {'moved', how many were new, group that was set aside, or '', groups that are left}
--         {'late'}: it was read too long ago, read it again | {'nobody'}: there is no group, nobody waits
-- Exactly once, because: what is in the stream is known for longer than its mark may live (SEEN_MS), until the mark is
-- cleared; then for WINDOW_MS, while nobody who read the mark before may come later than in half of that.
-- Maximum: 8 outcomes of 128 KB; 300 entries trimmed, twice.
local read_at, most, now = tonumber(ARGV[1]), tonumber(ARGV[2]), now_ms()
if math.abs(now - read_at) > WINDOW_MS / 2 then return {'late'} end
local all = groups()
if #all == 0 then return {'nobody'} end
local moved = 0
for i = 3, #ARGV, 6 do
  local generation, chat_hash, owner_hash, ended, chat, outcome = unpack(ARGV, i, i + 5)
  local erased = 0
  for _, name in ipairs({'/c' .. chat_hash, '/w' .. owner_hash}) do
    erased = math.max(erased, tonumber(redis.call('ZSCORE', KEYS[2], name) or '0') - WINDOW_MS)
  end
  if redis.call('ZSCORE', KEYS[2], generation) or tonumber(ended) <= erased or now - ended > MARK_MS then
    -- It is there, or is not to be: its chat or its owner was erased, or it is so old that nobody knows any more.
  else
    redis.call('XADD', KEYS[1], '*', 'o', outcome, 'c', chat, 'w', owner_hash)
    redis.call('ZADD', KEYS[2], string.format('%.0f', now + SEEN_MS), generation)
    moved = moved + 1
  end
end
redis.call('PEXPIRE', KEYS[1], KEPT_MS)
redis.call('PEXPIRE', KEYS[2], SEEN_MS)
local dropped, left = '', #all
-- A group that nobody reads must not fill Redis. Only once all is trimmed that nobody needs: else the next one would go.
if (redis.call('MEMORY', 'USAGE', KEYS[1]) or 0) > most and trim() and redis.call('MEMORY', 'USAGE', KEYS[1]) > most then
  local slowest, from
  for _, group in ipairs(all) do
    local its = needed_from(group)
    if not from or is_before(its, from) then slowest, from = group, its end
  end
  local lost = (slowest.lag or 0) + slowest.pending
  redis.call('XGROUP', 'DESTROY', KEYS[1], slowest.name)
  redis.call('HSET', KEYS[4], slowest.name, string.format('%.0f %.0f', now, lost))
  redis.call('PEXPIRE', KEYS[4], KEPT_MS)
  dropped, left = slowest.name, left - 1
  if left == 0 then redis.call('UNLINK', KEYS[1]) else trim() end
end
return {'moved', moved, dropped, left}
