-- Proto text: the .proto of a mode, for agents in languages that compile it.

local WELL_KNOWN = { json = "string" }

local M = {}

local function option_notes(field)
  local notes = {}
  if field.type == "json" then notes[#notes + 1] = "JSON text" end
  if field.required then notes[#notes + 1] = "required" end
  if field.one_of then notes[#notes + 1] = "one of " .. table.concat(field.one_of, ", ") end
  if field.default ~= nil then notes[#notes + 1] = "default " .. tostring(field.default) end
  if field.min then notes[#notes + 1] = "at least " .. string.format("%.14g", field.min) end
  if field.max then notes[#notes + 1] = "at most " .. string.format("%.14g", field.max) end
  if field.new then notes[#notes + 1] = "new in " .. field.new end
  if field.ref then notes[#notes + 1] = "known in " .. field.ref end
  return #notes > 0 and "  // " .. table.concat(notes, "; ") or ""
end

local function field_line(field)
  local kind = WELL_KNOWN[field.type] or field.type
  if field.map then
    kind = "map<string, " .. kind .. ">"
  elseif field.repeated then
    kind = "repeated " .. kind
  end
  return string.format("  %s %s = %d;%s", kind, field.name, field.number, option_notes(field))
end

---The .proto text of a model.
function M.render(model)
  local out = { 'syntax = "proto3";', "", "// " .. model.title .. " (" .. model.id .. " " .. model.version .. ")",
    "package " .. model.package .. ";" }
  for _, message in ipairs(model.messages) do
    out[#out + 1] = ""
    if message.doc then out[#out + 1] = "// " .. message.doc end
    if message.encoding == "raw" then
      out[#out + 1] = "// " .. message.type .. ": the payload is opaque bytes"
    else
      out[#out + 1] = "message " .. message.type .. "Payload {"
      for _, field in ipairs(message.fields) do out[#out + 1] = field_line(field) end
      out[#out + 1] = "}"
    end
  end
  return table.concat(out, "\n") .. "\n"
end

return M
