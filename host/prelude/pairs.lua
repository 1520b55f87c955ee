-- `pairs` whose loops are never compiled. Debian 12's LuaJIT (2.1.0-beta3 of March 2022) compiles loops over its own
-- `pairs`, and in coroutines such code now and then takes a value for a key or misses an entry: one walk of a few hundred
-- thousand, silently. A loop over another function than the built-in `next` stays with the interpreter, which is right,
-- and hardly slower; so nothing outside of isolates, where nothing is compiled, may say `in next, t`.

local next, type = next, type

local function step(map, key) return next(map, key) end

jit.off(step)

---Like the built-in one.
function pairs(map) -- luacheck: ignore 121
  if type(map) ~= "table" then error("bad argument #1 to 'pairs' (table expected, got " .. type(map) .. ")", 2) end
  return step, map, nil
end
