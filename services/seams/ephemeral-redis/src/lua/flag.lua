-- for each session: user, id, whether it is to resync
for i = 1, #ARGV, 3 do
  local user, id = ARGV[i], ARGV[i + 1]
  local state = load(user)
  local held = state and find(state, id)
  if held and held[5] ~= GONE then
    if ARGV[i + 2] == '1' then
      held[5] = RESYNC
      redis.call('SADD', base .. 'r' .. held[2], id)
    else
      held[5] = 0
      redis.call('SREM', base .. 'r' .. held[2], id)
    end
    save(user, state)
  end
end
