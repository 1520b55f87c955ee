-- OpenAPI 3.1 from route tables: what the router serves is what the document says.

local json = require("macp.core.json")
local tables = require("macp.core.tables")

local REASONS = {
  [200] = "Done", [201] = "Created", [202] = "Accepted", [204] = "Done, nothing to say", [302] = "Elsewhere",
  [410] = "Gone", [503] = "Not available",
}

-- Keywords of ours that are no JSON Schema, and formats that tell less outside.
local OWN_FORMATS = { ["session-id"] = true, ["non-blank"] = true, ["strict-uuid"] = true }

local ERROR_SCHEMA = {
  type = "object", required = { "statusCode", "errorCode", "message", "error" },
  properties = {
    statusCode = { type = "integer" }, errorCode = { type = "string" }, error = { type = "string" },
    message = { description = "A list for field validation.", anyOf = json.array({
      { type = "string" }, { type = "array", items = { type = "string" } } }) },
    metadata = { type = "object" },
  },
}

local M = {}

local function export(schema)
  if type(schema) ~= "table" then return schema end
  if #schema > 0 or json.is_array(schema) then
    local list = json.array({})
    for i, item in ipairs(schema) do list[i] = export(item) end
    return list
  end
  local out = {}
  for key, value in pairs(schema) do out[key] = export(value) end
  if OWN_FORMATS[out.format] then out.format = nil end
  if type(out.uniqueItems) == "string" then out.uniqueItems = true end
  if type(schema.discriminator) == "table" and schema.discriminator.mapping then
    out.discriminator, out.oneOf = nil, json.array({})
    for _, name in ipairs(tables.sorted_keys(schema.discriminator.mapping)) do
      table.insert(out.oneOf, export(schema.discriminator.mapping[name]))
    end
  end
  return json.object(out)
end

-- A named schema is left to a description: names are contracts documented elsewhere.
local function shape(returns)
  if type(returns) == "string" then return { type = "object", title = returns } end
  return export(returns)
end

local function path_parameters(route, list)
  local declared = route.params and route.params.properties or {}
  for name in route.path:gmatch("[:*]([%w_]+)") do
    local schema = declared[name] or { type = "string", format = name == "id" and "uuid" or nil }
    list[#list + 1] = { name = name, ["in"] = "path", required = true, schema = export(schema) }
  end
end

local function named_parameters(declared, place, list)
  if declared == nil then return end
  local required = tables.set(declared.required or {})
  for _, name in ipairs(tables.sorted_keys(declared.properties or {})) do
    local schema = declared.properties[name]
    list[#list + 1] = {
      name = name, ["in"] = place, required = required[name] or false, schema = export(schema),
      description = schema.description,
    }
  end
end

-- What the pipeline answers before and besides the handler, by status.
local function refusals(route)
  local out = { [400] = "Malformed or not valid" }
  if not route.public then out[401], out[403] = "Credentials are missing or wrong", "The scope is missing" end
  if route.path:find("[:*]") then out[404] = "Not there" end
  if route.body then out[413], out[415] = "The body is too large", "The body is no JSON" end
  if route.rate ~= "none" then out[429] = "Too many requests" end
  return out
end

local function failure(description)
  return {
    description = description,
    content = { ["application/json"] = { schema = { ["$ref"] = "#/components/schemas/Error" } } },
  }
end

local function responses(route)
  local out = {}
  for status, description in pairs(refusals(route)) do out[tostring(status)] = failure(description) end
  for status, returns in pairs(route.returns) do
    local content
    if status ~= 204 then
      local media = route.media or (route.raw and "text/event-stream") or "application/json"
      content = { [media] = { schema = shape(returns) } }
    end
    out[tostring(status)] = { description = REASONS[status] or "Answer", content = content }
  end
  out.default = failure("Failure")
  return out
end

local function operation_id(route)
  local words = { route.method:lower() }
  for word in route.path:gmatch("[%w]+") do words[#words + 1] = word:sub(1, 1):upper() .. word:sub(2) end
  return table.concat(words)
end

local function operation(route)
  local parameters = json.array({})
  path_parameters(route, parameters)
  named_parameters(route.query, "query", parameters)
  named_parameters(route.headers, "header", parameters)
  local out = {
    operationId = operation_id(route), summary = route.summary, description = route.description,
    tags = route.tag and json.array({ route.tag }) or nil, parameters = parameters, responses = responses(route),
    security = route.public and json.array({}) or nil,
  }
  if route.body then
    local needed = route.body.required ~= nil and #route.body.required > 0
    out.requestBody = { required = needed, content = { ["application/json"] = { schema = export(route.body) } } }
  end
  if route.scope then out["x-scope"] = route.scope end
  return out
end

---@param routes table[]
---@param info { title: string, version: string }
---@return table OpenAPI 3.1 document
function M.document(routes, info)
  local paths = {}
  for _, route in ipairs(routes) do
    local path = route.path:gsub("[:*]([%w_]+)", "{%1}")
    paths[path] = paths[path] or {}
    paths[path][route.method:lower()] = operation(route)
  end
  return {
    openapi = "3.1.0", paths = json.object(paths),
    info = { title = info.title, version = info.version, license = { name = "Apache 2.0", identifier = "Apache-2.0" } },
    servers = json.array({ { url = "/" } }),
    components = {
      schemas = { Error = ERROR_SCHEMA },
      securitySchemes = { apiKey = { type = "http", scheme = "bearer", description = "An API key." } },
    },
    security = json.array({ { apiKey = json.array({}) } }),
  }
end

return M
