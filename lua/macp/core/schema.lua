-- JSON Schema subset: compile once, then check values, fill defaults and explain problems by path.
--
-- Keywords: type (one or a list; "null" allowed), properties, required, additionalProperties (false or a schema), enum,
-- minimum, maximum, exclusiveMinimum, minLength, maxLength, format (core/formats.lua), items, minItems, maxItems,
-- uniqueItems (true, or the name of the property that must differ), default,
-- discriminator = { propertyName, mapping = { value = schema } }. A null where an optional property does not allow it
-- counts as absent. `not = {}` refuses a property, with its description as the reason. Unknown keywords raise at compile time;
-- title, description, examples and $id are for documents.

local json = require("macp.core.json")
local formats = require("macp.core.formats")
local suggest = require("macp.core.suggest")
local tables = require("macp.core.tables")

local MAX_PROBLEMS = 50
local MAX_DEPTH = 32

local KNOWN = tables.set({
  "type", "properties", "required", "additionalProperties", "enum", "minimum", "maximum", "exclusiveMinimum",
  "minLength", "maxLength", "format", "items", "minItems", "maxItems", "uniqueItems", "default", "discriminator",
  "title", "description", "examples", "$id", "not",
})

local TYPE_WORDS = {
  string = "a string", number = "a number", integer = "an integer number", boolean = "a boolean value",
  object = "an object", array = "an array", null = "null",
}

local M = {}

local function add(problems, path, message, expected)
  if #problems < MAX_PROBLEMS then
    problems[#problems + 1] = { path = path, message = (path == "" and "body" or path) .. " " .. message,
      expected = expected }
  end
end

local function join(path, key)
  return path == "" and tostring(key) or (path .. "." .. key)
end

local function is_array(value)
  return type(value) == "table" and (json.is_array(value) or (#value > 0))
end

local function is_finite(value)
  return type(value) == "number" and value == value and value ~= math.huge and value ~= -math.huge
end

-- Integers that a number and a bigint of the database hold alike; unbounded ones of a schema end there.
local MAX_EXACT = 9007199254740992

local MATCHES = {
  string = function(value) return type(value) == "string" end,
  number = is_finite,
  integer = function(value) return is_finite(value) and value % 1 == 0 end,
  boolean = function(value) return type(value) == "boolean" end,
  object = function(value) return type(value) == "table" and not is_array(value) end,
  array = is_array,
  null = function(value) return value == json.null end,
}

-- UTF-8 characters of a text (the host has checked that it is UTF-8).
local function characters(text)
  local _, continuation = text:gsub("[\128-\191]", "")
  return #text - continuation
end

local compile

local function type_words(names)
  local words = {}
  for i, name in ipairs(names) do words[i] = TYPE_WORDS[name] end
  return table.concat(words, " or ")
end

-- The message of a number that is missing or no number at all: bounds first, they say more.
local function number_words(schema)
  if schema.exclusiveMinimum == 0 then return "a positive number" end
  return nil
end

local function compile_type(schema)
  if schema.type == nil then return nil end
  local names = type(schema.type) == "table" and schema.type or { schema.type }
  for _, name in ipairs(names) do
    if not MATCHES[name] then error("schema: unknown type " .. tostring(name), 0) end
  end
  local words = number_words(schema) or type_words(names)
  local message, expected = "must be " .. words, table.concat(names, "|")
  local first = MATCHES[names[1]]
  return function(value, path, problems)
    if first(value) then return true end
    for i = 2, #names do
      if MATCHES[names[i]](value) then return true end
    end
    add(problems, path, message, expected)
    return false
  end
end

-- A bound as people write it: 9007199254740992, not 9.007199254741e+15.
local function digits(bound)
  return bound % 1 == 0 and string.format("%.0f", bound) or tostring(bound)
end

local function compile_enum(values)
  local allowed, words = {}, {}
  for i, value in ipairs(values) do allowed[value], words[i] = true, tostring(value) end
  local message = "must be one of the following values: " .. table.concat(words, ", ")
  return function(value, path, problems)
    if allowed[value] then return end
    local hint = type(value) == "string" and suggest.hint(value, words) or ""
    add(problems, path, message .. hint, words)
  end
end

local function compile_number(schema)
  local low, high, above = schema.minimum, schema.maximum, schema.exclusiveMinimum
  if schema.type == "integer" then low, high = low or -MAX_EXACT, high or MAX_EXACT end
  if not (low or high or above) then return nil end
  local above_words = above == 0 and "must be a positive number" or ("must be greater than " .. tostring(above))
  return function(value, path, problems)
    if type(value) ~= "number" then return end
    if above and value <= above then add(problems, path, above_words, "> " .. above)
    elseif low and value < low then
      add(problems, path, "must not be less than " .. digits(low), ">= " .. digits(low))
    elseif high and value > high then
      add(problems, path, "must not be greater than " .. digits(high), "<= " .. digits(high))
    end
  end
end

local function compile_string(schema)
  local least, most, format = schema.minLength, schema.maxLength, schema.format
  if not (least or most or format) then return nil end
  local checker = format and (formats[format] or error("schema: unknown format " .. format, 0))
  return function(value, path, problems)
    if type(value) ~= "string" then return end
    if least == 1 and value == "" then
      add(problems, path, "should not be empty", "a non-empty string")
    elseif least and characters(value) < least then
      add(problems, path, "must be longer than or equal to " .. least .. " characters", least .. " characters or more")
    elseif most and #value > most and characters(value) > most then
      add(problems, path, "must be shorter than or equal to " .. most .. " characters", most .. " characters at most")
    elseif checker and not checker.check(value) then
      add(problems, path, checker.says, format)
    end
  end
end

local function check_unique(value, by, path, problems)
  local seen = {}
  for i, item in ipairs(value) do
    local key = item
    if type(by) == "string" then key = type(item) == "table" and item[by] or nil
    elseif type(item) == "table" then key = json.canonical(item) end
    if key ~= nil then
      if seen[key] then
        local where = seen[key] .. " and " .. (i - 1)
        add(problems, path, "must be unique: " .. tostring(key) .. " is at " .. where, "unique items")
        return
      end
      seen[key] = i - 1
    end
  end
end

local function compile_array(schema)
  local least, most, unique = schema.minItems, schema.maxItems, schema.uniqueItems
  local item = schema.items and compile(schema.items)
  if not (least or most or unique or item) then return nil end
  return function(value, path, problems, depth)
    if not is_array(value) then return end
    local count = #value
    if least and count < least then
      add(problems, path, "must contain at least " .. least .. " elements", least .. " elements or more")
    end
    if most and count > most then
      add(problems, path, "must contain no more than " .. most .. " elements", most .. " elements at most")
      return
    end
    if item then
      for i = 1, count do value[i] = item.run(value[i], join(path, i - 1), problems, depth + 1) end
    end
    if unique then check_unique(value, unique, path, problems) end
  end
end

-- Property names in the order in which their problems are reported: as required first, then alphabetically.
local function property_order(properties, required)
  local order, seen = {}, {}
  for _, name in ipairs(required) do order[#order + 1], seen[name] = name, true end
  for _, name in ipairs(tables.sorted_keys(properties)) do
    if not seen[name] then order[#order + 1] = name end
  end
  return order
end

local function compile_extra(schema, properties)
  local extra = schema.additionalProperties
  if extra == nil or extra == true then return nil end
  local names = tables.sorted_keys(properties)
  local checker = type(extra) == "table" and compile(extra)
  local function refuse(path, key, problems)
    local inner = join(path, key)
    if #problems >= MAX_PROBLEMS then return end
    local message = "property " .. inner .. " should not exist" .. suggest.hint(tostring(key), names)
    problems[#problems + 1] = { path = inner, message = message, expected = names }
  end
  return function(value, path, problems, depth)
    local unknown
    for key in pairs(value) do
      if properties[key] == nil then
        unknown = unknown or {}
        unknown[key] = true
      end
    end
    if unknown == nil then return end
    for _, key in ipairs(tables.sorted_keys(unknown)) do
      if checker then value[key] = checker.run(value[key], join(path, key), problems, depth + 1)
      else refuse(path, key, problems) end
    end
  end
end

local function compile_object(schema)
  local properties, required = schema.properties or {}, schema.required or {}
  local order, checkers, needed = property_order(properties, required), {}, tables.set(required)
  for name, inner in pairs(properties) do checkers[name] = compile(inner) end
  local extra = compile_extra(schema, properties)
  if #order == 0 and extra == nil then return nil end
  return function(value, path, problems, depth)
    if type(value) ~= "table" or is_array(value) then return end
    for i = 1, #order do
      local name = order[i]
      local checker, item = checkers[name], value[name]
      if not needed[name] and (item == nil or (item == json.null and not checker.nullable)) then
        value[name] = tables.deep_copy(checker.default)
      elseif checker then
        value[name] = checker.run(item, join(path, name), problems, depth + 1)
      elseif item == nil then
        add(problems, join(path, name), "should not be empty", "a value")
      end
    end
    if extra then extra(value, path, problems, depth) end
  end
end

-- { propertyName, mapping }: the property's value picks the schema of the whole object.
local function compile_choice(discriminator)
  local name, branches, values = discriminator.propertyName, {}, tables.sorted_keys(discriminator.mapping)
  for value, inner in pairs(discriminator.mapping) do branches[value] = compile(inner) end
  local check_value = compile_enum(values)
  return function(value, path, problems, depth)
    if type(value) ~= "table" then return end
    local branch = branches[value[name]]
    if branch then branch.run(value, path, problems, depth + 1)
    else check_value(value[name], join(path, name), problems) end
  end
end

-- A property that must not be there.
local function compile_refusal(schema)
  if next(schema["not"]) ~= nil then error("schema: `not` takes {} only", 0) end
  local reason = schema.description and ": " .. schema.description or ""
  return function(_, path, problems)
    if #problems < MAX_PROBLEMS then
      problems[#problems + 1] = { path = path, message = "property " .. path .. " should not exist" .. reason }
    end
  end
end

local function accepts_null(schema)
  if schema.type == nil then return schema.enum == nil and schema["not"] == nil end
  for _, name in ipairs(type(schema.type) == "table" and schema.type or { schema.type }) do
    if name == "null" then return true end
  end
  return false
end

-- schema -> { run, default, nullable }; run(value, path, problems, depth) returns the value with defaults filled in
compile = function(schema)
  for keyword in pairs(schema) do
    if not KNOWN[keyword] then
      error("schema: unknown keyword " .. keyword .. suggest.hint(keyword, tables.sorted_keys(KNOWN)), 0)
    end
  end
  local check_type = compile_type(schema)
  local checks = {}
  local function use(check) if check then checks[#checks + 1] = check end end
  use(schema["not"] and compile_refusal(schema))
  use(schema.enum and compile_enum(schema.enum))
  use(compile_number(schema))
  use(compile_string(schema))
  use(compile_array(schema))
  use(compile_object(schema))
  use(schema.discriminator and compile_choice(schema.discriminator))
  local function run(value, path, problems, depth)
    if depth > MAX_DEPTH then
      add(problems, path, "is nested too deeply", "at most " .. MAX_DEPTH .. " levels")
      return value
    end
    if check_type and not check_type(value, path, problems) then return value end
    for i = 1, #checks do checks[i](value, path, problems, depth) end
    return value
  end
  return { run = run, default = schema.default, nullable = accepts_null(schema) }
end

---Compiles a schema; a mistake in the schema raises.
---@param schema table
---@return fun(value: any): any, table|nil validator returns the value (defaults filled into it in place), or nil and
--- the problems: { path, message, expected }[]
function M.compile(schema)
  local checker = compile(schema)
  return function(value)
    local problems = {}
    if value == nil and checker.default ~= nil then value = tables.deep_copy(checker.default) end
    local result = checker.run(value, "", problems, 0)
    if #problems > 0 then return nil, problems end
    return result
  end
end

local function to_boolean(text)
  if text == "true" then return true end
  if text == "false" then return false end
  return text
end

-- A number as JSON writes it; only one that need not be whole may have an exponent. Other text stays as it is.
local function to_number(text, kind)
  local mantissa = kind == "number" and text:gsub("[eE]%-?%d+$", "") or text
  return mantissa:find("^%-?%d+%.?%d*$") and tonumber(text) or text
end

---A validator for query and path parameters: texts become the numbers and booleans that the properties ask for,
---empty ones count as absent, unknown ones are left alone.
---@param schema table an object schema
function M.compile_params(schema)
  local validate = M.compile(schema)
  local numbers, booleans = {}, {}
  for name, inner in pairs(schema.properties or {}) do
    if inner.type == "integer" or inner.type == "number" then numbers[name] = inner.type end
    if inner.type == "boolean" then booleans[#booleans + 1] = name end
  end
  return function(params)
    for name, text in pairs(params) do
      if text == "" then params[name] = nil end
    end
    for name, kind in pairs(numbers) do
      if type(params[name]) == "string" then params[name] = to_number(params[name], kind) end
    end
    for _, name in ipairs(booleans) do params[name] = to_boolean(params[name]) end
    return validate(params)
  end
end

return M
