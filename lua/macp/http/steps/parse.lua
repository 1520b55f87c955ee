-- Path parameters, query and body: read and checked by the schemas of the route.

local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local schema = require("macp.core.schema")

local BAD_UUID = "Validation failed (uuid is expected)"

local M = {}

-- Every `:id` is a UUID unless the route's params schema says otherwise.
local function uuid_params(route)
  local names = {}
  local declared = route.params and route.params.properties or {}
  for name in route.path:gmatch(":([%w_]+)") do
    local own = declared[name]
    if (own == nil and name == "id") or (own and own.format == "uuid") then names[#names + 1] = name end
  end
  return names
end

local function is_json(content_type)
  local media = content_type:match("^%s*([^;%s]+)")
  if media == nil then return false end
  media = media:lower()
  return media == "application/json" or media:find("^application/[%w.%-]+%+json$") ~= nil
end

-- true when some text in the value holds a NUL, which PostgreSQL stores nowhere.
local function holds_nul(value)
  if type(value) == "string" then return value:find("%z") ~= nil end
  if type(value) ~= "table" then return false end
  for key, item in pairs(value) do
    if holds_nul(key) or holds_nul(item) then return true end
  end
  return false
end

-- The body as a value; an empty one counts as an empty object.
local function read_body(req)
  local text = req.body
  if text == nil or text == "" then return json.object({}) end
  local content_type = req.headers["content-type"]
  if content_type and not is_json(content_type) then
    error(errors.new("UNSUPPORTED_MEDIA_TYPE", nil, "Unsupported media type " .. content_type
      .. ": the body must be application/json"), 0)
  end
  local coding = req.headers["content-encoding"]
  if coding and coding:lower() ~= "identity" then
    error(errors.new("UNSUPPORTED_MEDIA_TYPE", nil, "Unsupported content encoding " .. coding
      .. ": the body must be sent as it is"), 0)
  end
  local value, err = json.decode(text)
  if err then error(errors.new("VALIDATION_ERROR", nil, "the body is not JSON: " .. err.message), 0) end
  if text:find("\\u0000", 1, true) and holds_nul(value) then
    error(errors.new("VALIDATION_ERROR", nil, "the body must not contain NUL characters"), 0)
  end
  return value
end

local function checked(validate, value)
  local result, problems = validate(value)
  if problems then error(errors.validation(problems), 0) end
  return result
end

---@return fun(ctx: macp.Context)|nil step
function M.compile(route)
  local uuids = uuid_params(route)
  local check_params = route.params and schema.compile_params(route.params)
  local check_query = route.query and schema.compile_params(route.query)
  local check_body = route.body and schema.compile(route.body)
  local has_params = route.path:find("/[:*]") ~= nil
  if not (has_params or check_params or check_query or check_body) then return nil end
  return function(ctx)
    for i = 1, #uuids do
      if not ids.is_uuid(ctx.params[uuids[i]]) then error(errors.new("VALIDATION_ERROR", nil, BAD_UUID), 0) end
    end
    local broken = ctx.broken_param
    if broken then
      error(errors.new("VALIDATION_ERROR", nil, json.array({ broken .. " must be percent-encoded UTF-8 text" })), 0)
    end
    if check_params then ctx.params = checked(check_params, ctx.params) end
    if check_query then ctx.query = checked(check_query, ctx.query) end
    if check_body then ctx.body = checked(check_body, read_body(ctx.req)) end
  end
end

return M
