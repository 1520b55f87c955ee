-- Values for what an OpenAPI document asks for: right ones from a schema, and wrong ones made of right ones.

local json = require("macp.core.json")

local json_schema = require("spec.support.json_schema")

local NUMBERS = { 0, -1, 1, 0.5, -0.5, 255, 256, 2147483647, 2147483648, -2147483649, 4294967296, 9007199254740991,
  9007199254740993, 1e18, 9223372036854775807, 1e21, 1e308, -1e308, 5e-324 }
local TEXTS = { "", " ", "\t", "0", "-1", "true", "null", "*", "%", "_", "\\", "'", "\"", "';--", "a\0b", "\0", "\127",
  "grüße", "日本語", "😀", "é", "\226\128\139", "\239\187\191bom", "\226\128\174rtl", "../..", "${x}", "{{x}}",
  "2026-02-30", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59.999Z", "0000-00-00", "1e999", "NaN", "-Infinity",
  "http://", "http://[::1]", "http://127.0.0.1:1/x", "https://example.org/hook", "file:///etc/passwd",
  "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "urn:x", "\240\159\146\169\0" }

local M = {}

local Values = {}
Values.__index = Values

---@param random table spec/support/random.lua
---@param document table
---@param pools table<string, string[]> good values by the name of the member or parameter that takes them
function M.new(random, document, pools)
  return setmetatable({ random = random, document = document, pools = pools }, Values)
end

---Some text that nobody asked for.
function Values:strange_text()
  local random = self.random
  if random:chance(6) then return random:pick({ "x", "é", "😀", "a b", "[" }):rep(random:int(200, 4000)) end
  if random:chance(10) then return self:pooled(random:pick({ "id", "sessionId", "policyId" })) or "x" end
  return random:pick(TEXTS)
end

function Values:pooled(name)
  local pool = self.pools[name]
  return pool and #pool > 0 and self.random:pick(pool) or nil
end

function Values:strange_number() return self.random:pick(NUMBERS) end

---Any JSON value.
function Values:strange(depth)
  local random = self.random
  local kind = random:int(1, depth and depth > 3 and 5 or 8)
  if kind == 1 then return json.null end
  if kind == 2 then return random:chance(50) end
  if kind == 3 then return self:strange_number() end
  if kind <= 5 then return self:strange_text() end
  local out = kind == 6 and json.array({}) or json.object({})
  for i = 1, random:int(0, 3) do
    out[kind == 6 and i or self:strange_text()] = self:strange((depth or 0) + 1)
  end
  return out
end

local function text_of(self, schema, name)
  local random = self.random
  local known = self:pooled(name)
  if known and random:chance(85) then return known end
  if schema.format == "date-time" then
    return string.format("%d-%02d-%02dT%02d:00:00Z", random:pick({ 2020, 2026, 2100 }), random:int(1, 12),
      random:int(1, 28), random:int(0, 23))
  end
  if schema.format == "uuid" then return self:pooled("id") or "00000000-0000-4000-8000-000000000000" end
  if schema.format == "uri" then return random:pick({ "https://example.org/a", "http://example.com:8080/b?c=d" }) end
  local least, most = schema.minLength or 0, schema.maxLength or 40
  return ("abcdefgh ij-klmn"):rep(math.ceil(most / 16)):sub(1, random:int(least, math.min(most, least + 40)))
end

local function number_of(self, schema)
  local low, high = schema.minimum or schema.exclusiveMinimum or 0, schema.maximum or 1000
  local random = self.random
  if random:chance(20) then return random:pick({ low, high }) end
  local value = random:int(math.ceil(low), math.floor(math.min(high, low + 1000)))
  return schema.type == "number" and random:chance(50) and value + 0.25 or value
end

local function object_of(self, schema, depth)
  local out, needed = json.object({}), {}
  for _, name in ipairs(schema.required or {}) do needed[name] = true end
  local names = {}
  for name in pairs(schema.properties or {}) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local inner = schema.properties[name]
    if inner["not"] == nil and (needed[name] or self.random:chance(40)) then
      out[name] = self:of(inner, name, depth + 1)
    end
  end
  return out
end

local function array_of(self, schema, name, depth)
  local out, seen, random = json.array({}), {}, self.random
  local least = schema.minItems or 0
  for _ = 1, random:int(least, math.min(schema.maxItems or 3, least + 3)) do
    local item = self:of(schema.items or {}, name and name:gsub("s$", ""), depth + 1)
    local key = json.canonical(item)
    if not seen[key] then out[#out + 1], seen[key] = item, true end
  end
  return out
end

---A value that fits a schema.
---@param name string|nil of the member or parameter, for its pool
function Values:of(schema, name, depth)
  depth = depth or 0
  if schema["$ref"] then return self:of(json_schema.resolve(self.document, schema["$ref"]), name, depth) end
  if schema.enum then return self.random:pick(schema.enum) end
  local choice = schema.oneOf or schema.anyOf
  if choice then return self:of(self.random:pick(choice), name, depth) end
  local kind = type(schema.type) == "table" and self.random:pick(schema.type) or schema.type
  if kind == "string" then return text_of(self, schema, name) end
  if kind == "integer" or kind == "number" then return number_of(self, schema) end
  if kind == "boolean" then return self.random:chance(50) end
  if kind == "null" then return json.null end
  if kind == "array" then return array_of(self, schema, name, depth) end
  if schema.properties then return object_of(self, schema, depth) end
  if kind == "object" then return depth > 3 and json.object({}) or json.object({ a = self:strange(3) }) end
  return self:strange(3)
end

-- Every place of a value that holds something: { holder, key }.
local function places(value, out)
  if type(value) ~= "table" then return out end
  local keys = {}
  for key in pairs(value) do keys[#keys + 1] = key end
  table.sort(keys, function(a, b) return tostring(a) < tostring(b) end)
  for _, key in ipairs(keys) do
    out[#out + 1] = { value, key }
    places(value[key], out)
  end
  return out
end

local function nested(depth)
  local value = json.array({})
  for _ = 1, depth do value = json.array({ value }) end
  return value
end

---Makes a value wrong in one to three places (sometimes in none that matters).
---@return any
function Values:broken(value)
  local random = self.random
  if random:chance(4) then return self:strange() end
  for _ = 1, random:int(1, 3) do
    local found = places(value, {})
    local way = random:int(1, 6)
    local place = #found > 0 and random:pick(found)
    local holder, key = place and place[1], place and place[2]
    if way == 1 and place and not json.is_array(holder) then
      holder[key] = nil
    elseif way == 2 or not place then
      if type(value) == "table" and not json.is_array(value) then value[self:strange_text()] = self:strange() end
    elseif way == 3 then
      holder[key] = self:strange_text()
    elseif way == 4 then
      holder[key] = self:strange_number()
    elseif way == 5 and random:chance(10) then
      holder[key] = nested(random:int(20, 45))
    else
      holder[key] = self:strange()
    end
  end
  return value
end

return M
