-- add_block.lua: one more block of a chat's digest, if the log still is the one that was read. The digest is a cache.
--
-- KEYS  1 log   2 head   3 digest (hash: chain = random, made with its first block; log, first, last, at = what it
--                                  covers; bytes = its size; index = a line for each block; <chain>:<last> = the blocks)
-- ARGV  1 chain that the block continues, or a new one   2 chain that the caller saw ('' none); a new one replaces it
--       3 log's identity   4 first seq of the block   5 last seq   6 ms of the last event   7 index line   8 block
--       9 most bytes of a digest
-- Maximum: a block of 1 MB and its line, beside 2,000 lines.
-- Returns {'added'} | {'behind'}: another reader was faster | {'other_log'} | {'full'}: the digest has its size
local chain, seen, log, first, last, at, line, block = unpack(ARGV, 1, 8)
local most, ttl = tonumber(ARGV[9]), redis.call('PTTL', KEYS[1])
-- What the log has dropped, no digest is to bring back.
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if oldest and tonumber(string.match(oldest[1], '^%d+')) > tonumber(first) then return {'other_log'} end
local newest = redis.call('XRANGE', KEYS[1], last .. '-0', last .. '-0')[1]
if redis.call('HGET', KEYS[2], 'log') ~= log or not newest or newest[2][2] ~= at or ttl <= 0 then return {'other_log'} end
local its_chain, its_last, bytes, index = unpack(redis.call('HMGET', KEYS[3], 'chain', 'last', 'bytes', 'index'))
local is_new = its_chain ~= chain
if is_new then
  if (its_chain or '') ~= seen then return {'behind'} end
  bytes, index = 0, ''
elseif tonumber(its_last) ~= first - 1 then
  return {'behind'}
end
bytes = tonumber(bytes) + #line + #block
if bytes > most then return {'full'} end
-- First a write that takes memory: a full Redis refuses only the first one.
redis.call('HSET', KEYS[3], 'chain', chain)
if is_new then
  redis.call('UNLINK', KEYS[3])
  redis.call('HSET', KEYS[3], 'chain', chain, 'log', log, 'first', first)
end
redis.call('HSET', KEYS[3], 'last', last, 'at', at, 'bytes', bytes, 'index', index .. line .. '\n')
redis.call('HSET', KEYS[3], chain .. ':' .. last, block)
-- The server may reckon the two from moments some ms apart: the digest is not to outlive the log.
redis.call('PEXPIRE', KEYS[3], math.max(ttl - 10, 1))
return {'added'}
