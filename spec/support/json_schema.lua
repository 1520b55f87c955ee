-- JSON Schema as documents for others use it: enough of 2020-12 to check answers against what an OpenAPI document
-- says of them. Independent of lua/macp/core/schema.lua, which made the document. Unknown keywords raise.
-- Objects that list properties are closed unless they say otherwise: a member that is not described is a problem.

local json = require("macp.core.json")

local IGNORED = { title = true, description = true, examples = true, default = true, example = true }

local M = {}

local function is_array(value) return type(value) == "table" and json.is_array(value) end

local function is_object(value) return type(value) == "table" and not json.is_array(value) end

local TYPES = {
  string = function(value) return type(value) == "string" end,
  number = function(value) return type(value) == "number" end,
  integer = function(value) return type(value) == "number" and value % 1 == 0 end,
  boolean = function(value) return type(value) == "boolean" end,
  null = function(value) return value == json.null end,
  array = is_array,
  object = is_object,
}

local FORMATS = {
  uuid = function(text)
    return text:find("^%x%x%x%x%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%-%x%x%x%x%x%x%x%x%x%x%x%x$") ~= nil
  end,
  ["date-time"] = function(text) return text:find("^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.%d%d%dZ$") ~= nil end,
  uri = function(text) return text:find("^%a[%w+.-]*:") ~= nil end,
}

local function characters(text) return #text - select(2, text:gsub("[\128-\191]", "")) end

local function shown(value)
  local text = json.encode(value)
  return #text > 120 and text:sub(1, 120) .. "..." or text
end

local check

local KEYWORDS = {}

function KEYWORDS.type(expected, value)
  local names = type(expected) == "table" and expected or { expected }
  for _, name in ipairs(names) do
    if TYPES[name](value) then return true end
  end
  return false, "is no " .. table.concat(names, " or ")
end

function KEYWORDS.enum(values, value)
  for _, known in ipairs(values) do
    if known == value then return true end
  end
  return false, "is none of the enumerated values"
end

function KEYWORDS.const(known, value) return known == value, "is not the constant" end

function KEYWORDS.minimum(bound, value) return type(value) ~= "number" or value >= bound, "is less than " .. bound end

function KEYWORDS.maximum(bound, value) return type(value) ~= "number" or value <= bound, "is more than " .. bound end

function KEYWORDS.exclusiveMinimum(bound, value)
  return type(value) ~= "number" or value > bound, "is not more than " .. bound
end

function KEYWORDS.minLength(bound, value) return type(value) ~= "string" or characters(value) >= bound, "is short" end

function KEYWORDS.maxLength(bound, value) return type(value) ~= "string" or characters(value) <= bound, "is long" end

function KEYWORDS.minItems(bound, value) return not is_array(value) or #value >= bound, "has too few items" end

function KEYWORDS.maxItems(bound, value) return not is_array(value) or #value <= bound, "has too many items" end

function KEYWORDS.format(name, value)
  local is_valid = FORMATS[name] or error("the document uses the unknown format " .. name, 0)
  return type(value) ~= "string" or is_valid(value), "is no " .. name
end

function KEYWORDS.uniqueItems(_, value)
  if not is_array(value) then return true end
  local seen = {}
  for _, item in ipairs(value) do
    local key = json.canonical(item)
    if seen[key] then return false, "repeats " .. key end
    seen[key] = true
  end
  return true
end

function KEYWORDS.required(names, value)
  if not is_object(value) then return true end
  for _, name in ipairs(names) do
    if value[name] == nil then return false, "lacks " .. name end
  end
  return true
end

-- Also the verdict on what is not described.
function KEYWORDS.properties(properties, value, at)
  if not is_object(value) then return true end
  local extra = at.schema.additionalProperties
  for name, item in pairs(value) do
    local inner = properties[name]
    if inner == nil and extra == nil then return false, "has the member " .. name .. ", which is not described" end
    if inner ~= nil then
      local ok, why = check(inner, item, at.path .. "/" .. name, at.root)
      if not ok then return false, why, true end
    end
  end
  return true
end

function KEYWORDS.additionalProperties(inner, value, at)
  if not is_object(value) or inner == true then return true end
  local known = at.schema.properties or {}
  for name, item in pairs(value) do
    if known[name] == nil then
      if inner == false then return false, "has the member " .. name end
      local ok, why = check(inner, item, at.path .. "/" .. name, at.root)
      if not ok then return false, why, true end
    end
  end
  return true
end

function KEYWORDS.items(inner, value, at)
  if not is_array(value) then return true end
  for i, item in ipairs(value) do
    local ok, why = check(inner, item, at.path .. "/" .. (i - 1), at.root)
    if not ok then return false, why, true end
  end
  return true
end

local function matches(list, value, at)
  local count, reasons = 0, {}
  for _, inner in ipairs(list) do
    local ok, why = check(inner, value, at.path, at.root)
    if ok then count = count + 1 else reasons[#reasons + 1] = why end
  end
  return count, table.concat(reasons, " | ")
end

function KEYWORDS.anyOf(list, value, at)
  local count, why = matches(list, value, at)
  return count > 0, "fits no alternative: " .. why
end

function KEYWORDS.oneOf(list, value, at)
  local count, why = matches(list, value, at)
  return count == 1, "fits " .. count .. " alternatives: " .. why
end

function KEYWORDS.allOf(list, value, at)
  local count, why = matches(list, value, at)
  return count == #list, why
end

KEYWORDS["not"] = function(inner, value, at) return not check(inner, value, at.path, at.root), "is refused" end

KEYWORDS["$ref"] = function(name, value, at)
  local ok, why = check(M.resolve(at.root, name), value, at.path, at.root)
  return ok, why, true
end

---What a local reference stands for.
function M.resolve(root, name)
  local found = root
  for part in name:gsub("^#/", ""):gmatch("[^/]+") do found = found[part] end
  return found or error("the document has no " .. name, 0)
end

function check(schema, value, path, root)
  if schema == true then return true end
  for keyword, argument in pairs(schema) do
    if not IGNORED[keyword] then
      local verdict = KEYWORDS[keyword] or error("unknown keyword " .. keyword .. " at " .. path, 0)
      local ok, why, is_placed = verdict(argument, value, { schema = schema, path = path, root = root })
      if not ok then return false, is_placed and why or string.format("%s = %s %s", path, shown(value), why) end
    end
  end
  return true
end

---@param schema table
---@param value any decoded JSON
---@param root table the document that references point into
---@return boolean
---@return string|nil why
function M.check(schema, value, root) return check(schema, value, "", root) end

return M
