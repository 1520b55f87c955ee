-- How schemas of answers are written: objects whose members are always there, unless they are named optional.

local tables = require("macp.core.tables")

local M = {}

---An object. Of the optional members each may be missing.
---@param title string|nil a title makes it a named schema of the document
---@param members table<string, table>
---@param optional table<string, table>|nil
function M.object(title, members, optional)
  local properties = {}
  for name, schema in pairs(members) do properties[name] = schema end
  for name, schema in pairs(optional or {}) do properties[name] = schema end
  local required = tables.sorted_keys(members)
  return { title = title, type = "object", properties = properties, required = #required > 0 and required or nil }
end

---The schema of an array of such items.
function M.list(items) return { type = "array", items = items } end

---The schema of a scalar, or null.
function M.nullable(schema)
  local out = {}
  for key, value in pairs(schema) do out[key] = value end
  out.type = { schema.type, "null" }
  return out
end

M.ANY_OBJECT = { type = "object" }
M.TEXT = { type = "string" }
M.TEXTS = { type = "array", items = { type = "string" } }
M.FLAG = { type = "boolean" }
M.NUMBER = { type = "number" }
M.COUNT = { type = "integer", minimum = 0 }
M.UUID = { type = "string", format = "uuid" }
M.DATE = { type = "string", format = "date-time" }
M.EPOCH_MS = { type = "integer", minimum = 0, description = "Milliseconds since 1970." }

return M
