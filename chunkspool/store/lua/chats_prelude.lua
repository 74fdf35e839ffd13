-- chats_prelude.lua: what brings a chat into being, by a question or by a fork: is there room for its log, and its place in
-- the lists. It follows sizes_prelude.lua.
local DROPPED_MAX, LISTED_MAX = 100, 100000

-- Whether the logs of a scope and `more` bytes are more than may be. Of what has expired, DROPPED_MAX logs are taken out
-- before anybody is refused.
local function is_too_large(scope, more, limit, now)
  if sum_of(scope) + more < limit then return false end
  begin_anew_if_evicted(scope)
  drop_expired(scope, now, DROPPED_MAX)
  return sum_of(scope) + more >= limit
end

-- Room comes when a log expires. The chats that are looked at move on with the clock, so in the end all have their turn.
local function limited_bytes(name, scope, look_at, now)
  local untils = key('sizes_until', scope)
  local first, number = redis.call('ZRANGE', untils, 0, 0, 'WITHSCORES')[2], redis.call('ZCARD', untils)
  local from = number > look_at and now % (number - look_at + 1) or 0
  local chats = redis.call('ZRANGE', untils, from, from + look_at - 1)
  return {'limited', name, first and math.max(1000, tonumber(first) - now) or -1, unpack(chats)}
end

-- Lists the chat as the one that was asked last; returns when it was asked before, or ''. Of a list that is full, those go
-- that were asked longest ago.
local function list_chat(scope, chat, kept_ms, now)
  local chats = key('chats', scope)
  local before = redis.call('ZSCORE', chats, chat) or ''
  redis.call('ZADD', chats, now, chat)
  keep_longer(chats, kept_ms + SPARE_MS)
  local over = redis.call('ZCARD', chats) - LISTED_MAX
  if over > 0 then
    redis.call('ZREM', chats, unpack(redis.call('ZRANGE', chats, 0, math.min(over, DROPPED_MAX) - 1)))
  end
  return before
end

