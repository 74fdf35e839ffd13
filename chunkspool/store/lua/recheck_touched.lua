-- recheck_touched.lua: note which chats of a person are still there; see touch_prelude.lua.
--
-- KEYS  1 touched_due, which says which slot of a cluster
-- ARGV  1 person   2… for each chat: its id, its ms when it was read, and '' where nothing is left of it, else the ms for
--       which it is still kept. At most TOUCHED_AT_ONCE of them
-- Returns {how many were taken out}
-- Maximum: 100 chats. One that was noted meanwhile stays.
local FIRST, EACH = 2, 3
local person, now, gone, longest = ARGV[1], now_ms(), {}, 0
local touched = key('touched', person)
for i = FIRST, #ARGV, EACH do
  local chat, kept_ms = ARGV[i], ARGV[i + 2]
  local at = redis.call('ZSCORE', touched, chat)
  if at and tonumber(at) == tonumber(ARGV[i + 1]) then
    if kept_ms == '' then gone[#gone + 1] = chat
    else
      redis.call('ZADD', touched, now, chat)
      longest = math.max(longest, tonumber(kept_ms))
    end
  end
end
if #gone > 0 then redis.call('ZREM', touched, unpack(gone)) end
note_touched_due(person)
keep_touched(person, longest)
return {#gone}
