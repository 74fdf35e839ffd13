-- touch.lua: note that some people are about to leave something in a chat; see touch_prelude.lua.
--
-- KEYS  1 touched_due, which says which slot of a cluster
-- ARGV  1 tenant   2 chat   3 ms that the chat is kept at least   4… hash of each person, at most TOUCHED_AT_ONCE of them
-- Returns {}
-- Maximum: 100 people.
local FIRST, now = 4, now_ms()
for i = FIRST, #ARGV do touch(ARGV[1] .. '/' .. ARGV[i], ARGV[2], tonumber(ARGV[3]), now) end
return {}
