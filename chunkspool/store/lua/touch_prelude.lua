-- touch_prelude.lua: in which chats a person has left something: a question, a fork, or how far they have read. It follows
-- schedule_prelude.lua.
--
--   touched:<person>   zset  chat -> ms at which it was last known that they have. A person is "<tenant>/<hash of their id>"
--   touched_due        zset  person -> the lowest of these ms, or a lower one
--   erasing:<person>   zset  as touched: what an erasure of the person is still to go through; with AGAIN, another was asked
--                            for meanwhile
--   erasures           zset  "<tenant> <id of the person>" -> ms at which their erasure last went on
-- A chat is noted before anything of a person gets into it, and is taken out only when nothing is there any more: the sweep
-- looks once a day (recheck_touched.lua). So an erasure finds all, however long others keep a chat.
local AGAIN = '/' -- no chat has this id
local ERASURE_MS = 30 * 86400 * 1000
local TOUCHED_OUTLIVES = 10 * 86400 * 1000 -- the seven days that a counter outlives its log, and some without a sweep

-- A day longer than it must, so that not each question renews it.
local function keep_touched(person, kept_ms)
  local ms = kept_ms + TOUCHED_OUTLIVES
  for _, name in ipairs({key('touched', person), key('touched_due')}) do
    if redis.call('PTTL', name) < ms then redis.call('PEXPIRE', name, ms + 86400 * 1000) end
  end
end

-- Returns when it was known before, or ''.
local function touch(person, chat, kept_ms, now)
  local before = redis.call('ZSCORE', key('touched', person), chat) or ''
  redis.call('ZADD', key('touched', person), now, chat)
  redis.call('ZADD', key('touched_due'), 'NX', now, person)
  keep_touched(person, kept_ms)
  return before
end

-- Nothing stays of a person who has no chat any more.
local function note_touched_due(person)
  local oldest = redis.call('ZRANGE', key('touched', person), 0, 0, 'WITHSCORES')[2]
  if oldest then redis.call('ZADD', key('touched_due'), oldest, person)
  else redis.call('ZREM', key('touched_due'), person) end
end

-- What a person has touched until now is what an erasure goes through.
local function set_aside(person)
  local touched, erasing = key('touched', person), key('erasing', person)
  if redis.call('EXISTS', touched) == 0 then return end
  redis.call('RENAME', touched, erasing)
  redis.call('ZREM', key('touched_due'), person)
  if redis.call('PTTL', erasing) < ERASURE_MS then redis.call('PEXPIRE', erasing, ERASURE_MS) end
end
