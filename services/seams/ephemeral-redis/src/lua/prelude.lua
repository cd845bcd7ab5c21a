-- What every script begins with. A bucket's keys all begin with KEYS[1], which holds its hash tag:
--   m        hash: epoch, born (ms), primary, next; e<edge> -> lease; and for each lease n<lease> -> edge,
--            p<lease> -> the epoch it is of, r<lease> -> that in which the edge has registered its sessions
--   l        sorted set: lease -> the ms at which it lapses
--   e<lease> set: users who have a session of it          r<lease> set: its sessions flagged for resync
--   d        sorted set: user -> the ms at which the status is due
--   u<user>  packed {sessions, settled}: a session is {id, lease, status, class, mark, detached, message},
--            settled is false or {status, class, message, version}. What comes later is appended.
-- Times are Redis's own. A lease or a moment too far ahead is of before the clock jumped back.
local base = KEYS[1]
local meta, leases, dues = base .. 'm', base .. 'l', base .. 'd'
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local RESYNC, GONE = 1, 2

local function load(user)
  local packed = redis.call('GET', base .. 'u' .. user)
  return packed and cmsgpack.unpack(packed)
end

local function save(user, state)
  local key = base .. 'u' .. user
  if #state[1] > 0 then
    redis.call('SET', key, cmsgpack.pack(state))
  elseif state[2] then
    redis.call('SET', key, cmsgpack.pack(state), 'PX', state[2][1] == OFFLINE and HOUR or 24 * HOUR)
  else
    redis.call('DEL', key)
  end
end

local function find(state, id)
  for at, session in ipairs(state[1]) do
    if session[1] == id then
      return session, at
    end
  end
end

local alive = {}
local function lives(lease)
  if alive[lease] == nil then
    local till = tonumber(redis.call('ZSCORE', leases, lease) or 0)
    alive[lease] = till > now and till <= now + LEASE + SLACK
  end
  return alive[lease]
end

-- A session is no longer `lease`'s.
local function leave(user, state, lease, id)
  redis.call('SREM', base .. 'r' .. lease, id)
  for _, session in ipairs(state[1]) do
    if session[2] == lease then
      return
    end
  end
  redis.call('SREM', base .. 'e' .. lease, user)
end

local function due(user, at)
  redis.call('ZADD', dues, 'LT', at, user)
end

local function new_lease(edge, till)
  local lease = redis.call('HINCRBY', meta, 'next', 1)
  redis.call('HSET', meta, 'e' .. edge, lease, 'n' .. lease, edge)
  redis.call('ZADD', leases, till, lease)
  return lease
end

-- The bucket's epoch; another one when the bucket is new or its primary was replaced.
local function epoch(candidate)
  local primary = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  local known = redis.call('HMGET', meta, 'epoch', 'primary', 'born')
  local born = tonumber(known[3] or 0)
  if known[1] and known[2] == primary and born <= now then
    return known[1], born
  end
  redis.call('HSET', meta, 'epoch', candidate, 'primary', primary, 'born', now)
  return candidate, now
end
