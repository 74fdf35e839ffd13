-- stop.lua: a user's stop. A generation that no live attempt holds ends at once; a running one is asked to.
--
-- KEYS  1-6 as in prelude.lua
-- ARGV  1 generation id   2 generation.stopped JSON   3 stops channel, on which the id is published
-- Returns {'stopped', seq, ages} ended now | {'stopping'} its worker was asked (again) | {'ended', status} | {'gone'}
-- Maximum: one event; nothing in it grows with the chat.
local id, stopped_event, stops_channel = ARGV[1], ARGV[2], ARGV[3]
return stop(KEYS[6], id, stopped_event, stops_channel, now_ms())
