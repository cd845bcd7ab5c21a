-- user, session, whether at once
local user, id = ARGV[1], ARGV[2]
local state = load(user)
local held, at
if state then
  held, at = find(state, id)
end
if held then
  local when = now
  if ARGV[3] == '1' then
    table.remove(state[1], at)
    leave(user, state, held[2], id)
  else
    redis.call('SREM', base .. 'r' .. held[2], id)
    if held[6] == 0 then
      held[6] = now
    end
    held[5] = GONE
    when = math.max(held[6] + DAMPING, now)
  end
  save(user, state)
  due(user, when)
end
