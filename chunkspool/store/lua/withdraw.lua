-- withdraw.lua: a request whose generation was not handed to a worker may be made again with the same id.
--
-- KEYS  1 request (string, "<id> <after>")
-- ARGV  1 generation id
-- Returns 1, or 0 where the request's generation is already another one (somebody has made it again)
local id, made = ARGV[1], redis.call('GET', KEYS[1])
if not made or string.match(made, '^%S+') ~= id then return {0} end
return {redis.call('DEL', KEYS[1])}
