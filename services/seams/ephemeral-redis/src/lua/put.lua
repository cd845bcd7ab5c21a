-- for each session: user, id, edge, status, class, message, whether attached
local known = {}
local function lease_of(edge)
  if not known[edge] then
    known[edge] = tonumber(redis.call('HGET', meta, 'e' .. edge) or nil) or new_lease(edge, 0)
  end
  return known[edge]
end

for i = 1, #ARGV, 7 do
  local user, id, message = ARGV[i], ARGV[i + 1], ARGV[i + 5]
  local status, class = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4])
  local attached = ARGV[i + 6] == '1'
  local lease = lease_of(ARGV[i + 2])
  local state = load(user) or { {}, false }
  local held, at = find(state, id)
  if held and held[2] ~= lease and not lives(held[2]) then
    table.remove(state[1], at)
    leave(user, state, held[2], id)
    held = nil
  end
  local when = now
  if not held then
    table.insert(state[1], { id, lease, status, class, 0, attached and 0 or now, message })
    redis.call('SADD', base .. 'e' .. lease, user)
  else
    local was = held[6] == 0
    local same = held[2] == lease and held[3] == status and held[4] == class and held[7] == message
    if same and was == attached and held[5] ~= GONE then
      when = nil
    elseif same and was and not attached then
      when = now + DAMPING
    end
    held[3], held[4], held[7] = status, class, message
    if attached then
      held[6] = 0
    elseif was then
      held[6] = now
    end
    if held[5] == GONE then
      held[5] = 0
    end
    if held[2] ~= lease then
      local old = held[2]
      held[2] = lease
      leave(user, state, old, id)
      redis.call('SADD', base .. 'e' .. lease, user)
      if held[5] == RESYNC then
        redis.call('SADD', base .. 'r' .. lease, id)
      end
    end
  end
  if when then
    save(user, state)
    due(user, when)
  end
end
