-- users -> edges, then for each user: sessions, attached ones, and (place of its edge, id) of each live one
local edges, place = {}, {}
local reply = { edges }
for _, user in ipairs(ARGV) do
  local found = { 0, 0 }
  local state = load(user)
  for _, session in ipairs(state and state[1] or {}) do
    local lease = session[2]
    if session[5] ~= GONE and lives(lease) then
      found[1] = found[1] + 1
      if session[6] == 0 then
        found[2] = found[2] + 1
      end
      if session[5] ~= RESYNC then
        if not place[lease] then
          table.insert(edges, redis.call('HGET', meta, 'n' .. lease) or '')
          place[lease] = #edges - 1
        end
        table.insert(found, place[lease])
        table.insert(found, session[1])
      end
    end
  end
  table.insert(reply, found)
end
return reply
