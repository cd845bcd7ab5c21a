-- the most users to name -> users
local limit = tonumber(ARGV[1])

-- Members of a sorted set of moments that have come, and of those that can only be of before the clock
-- jumped back.
local function come(key, ahead, most)
  local found = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, most)
  if #found < most then
    local strays = redis.call('ZRANGEBYSCORE', key, now + ahead + SLACK, '+inf', 'LIMIT', 0, most - #found)
    for _, stray in ipairs(strays) do
      table.insert(found, stray)
    end
  end
  return found
end

local left = limit
for _, lapsed in ipairs(come(leases, LEASE, limit)) do
  local lease = tonumber(lapsed)
  local users = left > 0 and redis.call('SPOP', base .. 'e' .. lease, left) or {}
  for _, user in ipairs(users) do
    local state = load(user)
    local kept = {}
    for _, session in ipairs(state and state[1] or {}) do
      if session[2] ~= lease then
        table.insert(kept, session)
      end
    end
    if state and #kept < #state[1] then
      state[1] = kept
      save(user, state)
      due(user, now)
    end
  end
  left = left - #users
  if redis.call('EXISTS', base .. 'e' .. lease) == 0 then
    local edge = redis.call('HGET', meta, 'n' .. lease)
    if edge and redis.call('HGET', meta, 'e' .. edge) == lapsed then
      redis.call('HDEL', meta, 'e' .. edge)
    end
    redis.call('HDEL', meta, 'n' .. lease, 'p' .. lease, 'r' .. lease)
    redis.call('DEL', base .. 'r' .. lease)
    redis.call('ZREM', leases, lease)
  end
end
return come(dues, DAMPING, limit)
