-- users -> for each: nothing, or status, class, message, version
local reply = {}
for at, user in ipairs(ARGV) do
  local state = load(user)
  local settled = state and state[2]
  if settled then
    settled[4] = math.max(settled[4] + 1, micros)
    save(user, state)
    reply[at] = { settled[1], settled[2], settled[3], string.format('%.0f', settled[4]) }
  else
    reply[at] = {}
  end
end
return reply
