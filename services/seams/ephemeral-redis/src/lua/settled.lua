-- candidate epoch -> 1: absence means offline
local current, born = epoch(ARGV[1])
if now - born < LEASE then
  return 0
end
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', leases, '(' .. string.format('%.0f', now), '+inf')) do
  if lives(lease) and redis.call('HGET', meta, 'r' .. lease) ~= current then
    return 0
  end
end
return 1
