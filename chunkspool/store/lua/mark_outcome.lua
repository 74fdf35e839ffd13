-- mark_outcome.lua: mark the outcome of a generation that a process of an older version has ended, which marks none.
--
-- KEYS  1-6 as in prelude.lua
-- ARGV  1 generation id
-- Returns {1}: it is marked now | {0}: it has not ended, was marked before, or nobody waits for it
-- Maximum: one generation.
if not ENDED[redis.call('HGET', KEYS[6], 'status') or ''] then return {0} end
return {mark_outcome(KEYS[6], ARGV[1])}
