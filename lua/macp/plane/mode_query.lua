-- The query of a mode's read endpoint: its field list as a JSON schema, and texts made into what the fields ask for.

local json = require("macp.core.json")
local schema = require("macp.core.schema")

local TYPES = { string = "string", bool = "boolean", double = "number", float = "number" }

local M = {}

local function property(field)
  local kind = TYPES[field.type] or "integer"
  local out = { type = kind, default = field.default, enum = field.one_of }
  if kind == "string" then
    out.minLength, out.maxLength = field.min, field.max
  elseif kind ~= "boolean" then
    out.minimum, out.maximum = field.min, field.max
    if kind == "integer" and field.type:find("^u") then out.minimum = field.min or 0 end
  end
  return out
end

---The schema of a query.
---@param fields table[]|nil a checked field list
---@return table
function M.schema(fields)
  local properties, required = {}, json.array({})
  for _, field in ipairs(fields or {}) do
    properties[field.name] = property(field)
    if field.required then required[#required + 1] = field.name end
  end
  return { type = "object", properties = json.object(properties), required = required }
end

---A function that picks the declared parameters of a query and checks them.
---@param fields table[]|nil
---@return fun(query: table<string, string>): table|nil, table[]|nil problems of core/schema.lua
function M.reader(fields)
  local validate = schema.compile_params(M.schema(fields))
  return function(query)
    local picked = {}
    for _, field in ipairs(fields or {}) do
      local text = query[field.name]
      if text and field.upper then text = text:upper() end
      if text and field.lower then text = text:lower() end
      picked[field.name] = text
    end
    return validate(picked)
  end
end

return M
