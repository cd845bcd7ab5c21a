-- users -> for each: nothing, or the status that changed: status, class, message, version
-- The derivation is that of tandem_ephemeral::status::derive.
local function better(a, b)
  if a[1] ~= b[1] then
    return a[1] < b[1]
  elseif a[2] ~= b[2] then
    return a[2] < b[2]
  elseif a[3] ~= b[3] then
    return a[3] < b[3]
  end
  return a[4] < b[4]
end

local function settle(user)
  local state = load(user)
  if not state then
    redis.call('ZREM', dues, user)
    return {}
  end
  local hidden, changed, again, best, chosen = false, false, nil, nil, nil
  local kept = {}
  for _, session in ipairs(state[1]) do
    if session[6] > now then
      session[6] = now
      changed = true
    end
    local rest = session[6] == 0 and DAMPING or session[6] + DAMPING - now
    if rest > 0 and lives(session[2]) then
      if session[6] ~= 0 then
        again = math.min(again or rest, rest)
      end
      hidden = hidden or session[3] == APPEAR_OFFLINE
      local place = PLACE[session[3]]
      if place then
        local rank = { place, session[6] == 0 and 0 or 1, session[4], session[1] }
        if not best or better(rank, best) then
          best, chosen = rank, session
        end
      end
    end
    if session[5] == GONE and rest <= 0 then
      changed = true
    else
      table.insert(kept, session)
    end
  end
  if #kept < #state[1] then
    local all = state[1]
    state[1] = kept
    for _, session in ipairs(all) do
      if not find(state, session[1]) then
        leave(user, state, session[2], session[1])
      end
    end
  end
  local derived = { OFFLINE, 0, '' }
  if chosen and not hidden then
    derived = { chosen[3], chosen[4], chosen[7] }
  end
  local settled, reply = state[2], {}
  local same = not settled and derived[1] == OFFLINE
    or settled and settled[1] == derived[1] and settled[2] == derived[2] and settled[3] == derived[3]
  if not same then
    derived[4] = math.max(settled and settled[4] + 1 or 0, micros)
    state[2] = derived
    changed = true
    reply = { derived[1], derived[2], derived[3], string.format('%.0f', derived[4]) }
  end
  if changed then
    save(user, state)
  end
  if again then
    redis.call('ZADD', dues, now + again, user)
  else
    redis.call('ZREM', dues, user)
  end
  return reply
end

local reply = {}
for at, user in ipairs(ARGV) do
  reply[at] = settle(user)
end
return reply
