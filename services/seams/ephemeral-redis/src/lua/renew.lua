-- edge, the epoch in which it has registered its sessions of this bucket, candidate epoch
-- -> epoch, lease, whether that is new, sessions to resync
local edge, registered, candidate = ARGV[1], ARGV[2], ARGV[3]
local current = epoch(candidate)
local lease = tonumber(redis.call('HGET', meta, 'e' .. edge) or nil)
local fresh = not lease or not lives(lease)
if fresh then
  if lease then
    redis.call('ZADD', leases, 'XX', 0, lease)
  end
  lease = new_lease(edge, now + LEASE)
else
  redis.call('ZADD', leases, now + LEASE, lease)
end
redis.call('HSET', meta, 'r' .. lease, registered)
return { current, lease, fresh and 1 or 0, redis.call('SMEMBERS', base .. 'r' .. lease) }
