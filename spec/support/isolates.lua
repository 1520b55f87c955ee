-- Isolates for specs of the host: a boot chunk that runs texts and gives the native functions to whoever asks.

local isolate = require("host.isolate")

local M = {}

--- What a hostile script may use before it is stopped.
M.LIMITS = { instructions = 1000000, growth_bytes = 16 * 1024 * 1024 }

local BOOT = [==[
local M = {}
local env = { error = error, string = string, tostring = tostring, ipairs = ipairs, table = table,
  unpack = unpack, select = select }
function M.echo(...) return ... end
function M.count(...) return select("#", ...) end
function M.run(text, ...)
  local chunk, message = native.compile(text, "modes/x/mode.lua", env)
  if not chunk then error(message, 0) end
  local first, second = chunk(...)
  return first, second
end
function M.swallow() while true do pcall(function() while true do end end) end end
function M.swallow_and_leave() return pcall(function() while true do end end) end
function M.native(name, ...) local first, second = native[name](...) return first, second end
function M.run_all(text) return native.compile(text, "modes/x/mode.lua", env)() end
local function join(t, remove)
  local out = {}
  for k, v in native.pairs(t) do out[#out + 1] = k .. "=" .. v .. " " if remove then t[remove] = nil end end
  return table.concat(out)
end
function M.join(t) return join(t) end
function M.join_and_remove(t, key) return join(t, key) end
function M.store(text)
  local bytes, message = native.cbor_encode(native.compile(text, "state", env)())
  return bytes, message
end
function M.codec(list, value)
  local codec = native.codec("test.M", list)
  local bytes = codec.encode(value)
  local _, failure = codec.decode("\18\1x")
  return native.hex(bytes), codec.decode(bytes), codec.decode(""), failure
end
function M.encode_tags(text)
  local codec = native.codec("test.M", { { name = "tags", number = 1, type = "string", ["repeated"] = true } })
  return (codec.encode({ tags = native.compile(text, "tags", env)() }))
end
function M.names()
  local out = {}
  for name in pairs(_G) do out[#out + 1] = name end
  table.sort(out)
  return table.concat(out, " ")
end
return M
]==]

--- An isolate that has booted; whoever takes it closes it. Options are those of isolate.new.
function M.boot(options)
  local iso = isolate.new(options or { name = "test" })
  assert(iso:boot("inside/test", BOOT))
  return iso
end

return M
