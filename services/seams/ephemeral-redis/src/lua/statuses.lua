-- users -> for each: nothing, or status, class, message, version
local reply = {}
for at, user in ipairs(ARGV) do
  local state = load(user)
  local settled = state and state[2]
  reply[at] = settled and { settled[1], settled[2], settled[3], string.format('%.0f', settled[4]) } or {}
end
return reply
