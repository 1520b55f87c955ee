-- lib/faults.lua of modes that fail on request: faults(hook, text) fails as the text says when it names the hook, e.g.
-- faults("apply", "apply loop").

return [[
return function(where, text)
  if text == where .. " loop" then while true do end end
  if text == where .. " memory" then
    local all = {}
    for i = 1, 100000000 do all[i] = { i, where } end
  end
  if text == where .. " recursion" then
    local function deeper(n) return 1 + deeper(n + 1) end
    return deeper(1)
  end
  if text == where .. " error" then
    local nothing
    return nothing.here
  end
  if text == where .. " value" then error({ no = "text" }) end
  if text == where .. " pattern" then return (("a"):rep(5000)):find(("a-"):rep(30) .. "b") end
end
]]
