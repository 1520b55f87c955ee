-- Standard check: the payload lists of a mode in the protocol's packages against its .proto files.

local embed = require("host.embed")
local proto = require("host.proto")

local checker = require("macp.modes.checker")

local M = {}

local pool

local function describe(name)
  pool = pool or assert(proto.load(embed.read("proto/macp.pb")))
  return pool:describe(name)
end

local function shown(field)
  return (field.repeated and "repeated " or "") .. field.type .. " " .. field.name .. " = " .. field.number
end

local function same(ours, theirs)
  return ours.name == theirs.name and ours.type == theirs.type and (ours.repeated or false) == (theirs.repeated
    or false)
end

local function check_message(c, model, message)
  local name = model.package .. "." .. message.type .. "Payload"
  local at = checker.join(checker.join("messages", message.type), "payload")
  local theirs = describe(name)
  if theirs == nil then
    return c:problem(checker.join("messages", message.type), "the protocol has no message " .. name, "payload.standard")
  end
  local by_number = {}
  for _, field in ipairs(message.fields) do by_number[field.number] = field end
  for _, field in ipairs(theirs) do
    local ours = by_number[field.number]
    by_number[field.number] = nil
    if ours == nil then
      c:problem(at, "the protocol also has " .. shown(field), "payload.standard")
    elseif not same(ours, field) then
      c:problem(at, shown(ours) .. " is " .. shown(field) .. " in the protocol", "payload.standard",
        c.map:text_line(at, ours.line))
    end
  end
  for _, ours in pairs(by_number) do
    c:problem(at, shown(ours) .. " is not in the protocol", "payload.standard", c.map:text_line(at, ours.line))
  end
end

---Problems of the payload lists of a mode whose package is the protocol's; none for other modes.
---@param rev macp.modes.Revision
---@return table[]
function M.run(rev)
  local problems = {}
  if not rev.model.package:find("^macp%.modes%.") then return problems end
  local c = checker.new(rev.root .. "mode.lua", rev.maps["mode.lua"], problems)
  for _, message in ipairs(rev.model.messages) do check_message(c, rev.model, message) end
  return problems
end

return M
