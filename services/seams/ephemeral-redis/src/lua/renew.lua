-- edge, the epoch in which it has registered its sessions of this bucket, candidate epoch
-- -> epoch, lease, whether that is new, sessions to resync
-- In a new epoch the edge has another lease. Sessions that it does not register again, being those whose removal a
-- replaced primary took along, go when the old one lapses.
local edge, registered, candidate = ARGV[1], ARGV[2], ARGV[3]
local current = epoch(candidate)
local lease = tonumber(redis.call('HGET', meta, 'e' .. edge) or nil)
local lapsed = not lease or not lives(lease)
local fresh = lapsed or redis.call('HGET', meta, 'p' .. lease) ~= current
if fresh then
  if lease then
    redis.call('ZADD', leases, 'XX', lapsed and 0 or now + LEASE, lease)
  end
  lease = new_lease(edge, now + LEASE)
  redis.call('HSET', meta, 'p' .. lease, current)
else
  redis.call('ZADD', leases, now + LEASE, lease)
end
redis.call('HSET', meta, 'r' .. lease, registered)
return { current, lease, lapsed and 1 or 0, redis.call('SMEMBERS', base .. 'r' .. lease) }
