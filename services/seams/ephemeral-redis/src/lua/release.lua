-- edge
local lease = redis.call('HGET', meta, 'e' .. ARGV[1])
if lease then
  redis.call('ZADD', leases, 'XX', 0, lease)
  redis.call('HDEL', meta, 'e' .. ARGV[1])
end
