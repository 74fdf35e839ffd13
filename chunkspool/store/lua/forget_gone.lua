-- forget_gone.lua: generations whose hash has expired or was evicted are active no more, whatever head says.
--
-- KEYS  1-7 as in prelude.lua (6 is not used)   8… gen of each generation, in the order of ARGV
-- ARGV  ids of active generations, as they stand in head
-- Returns {how many were taken out}: none where head lists others meanwhile
-- Maximum: 256 generations, of 6,000 that head lists.
local FIRST_GEN = 7
local left = {}
for i, id in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[FIRST_GEN + i]) == 1 then left[#left + 1] = id end
end
if #left == #ARGV or not replace_active(table.concat(ARGV, ' '), table.concat(left, ' ')) then return {0} end
redis.call('PUBLISH', KEYS[5], LOOK) -- nobody is to wait for them
return {#ARGV - #left}
