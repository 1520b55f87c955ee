-- OpenAPI 3.1 from route tables: what the router serves is what the document says.

local json = require("macp.core.json")
local tables = require("macp.core.tables")
local keyed = require("macp.http.steps.keyed")

local REASONS = {
  [200] = "Done", [201] = "Created", [202] = "Accepted", [204] = "Done, nothing to say", [302] = "Elsewhere",
  [304] = "Not changed", [410] = "Removed", [503] = "Not available",
}

local REFUSALS = {
  [400] = "Malformed or not valid", [401] = "Credentials are missing or wrong", [403] = "Not allowed",
  [404] = "Not there", [409] = "The state does not allow it", [413] = "The body is too large",
  [414] = "The path or the query is too long", [415] = "The body is no JSON", [429] = "Too many requests",
  [501] = "The runtime cannot do it", [502] = "Whom it had to ask did not do it",
  [503] = "The database or the runtime does not answer", [504] = "The runtime did not answer in time",
}

-- Keywords of ours that are no JSON Schema, and formats that tell less outside.
local OWN_FORMATS = { ["session-id"] = true, ["non-blank"] = true, ["strict-uuid"] = true,
  ["header-value"] = true }

local ERROR_SCHEMA = {
  type = "object", required = { "statusCode", "errorCode", "message", "error" },
  properties = {
    statusCode = { type = "integer" }, errorCode = { type = "string" }, error = { type = "string" },
    message = { description = "A list for field validation.", anyOf = json.array({
      { type = "string" }, { type = "array", items = { type = "string" } } }) },
    metadata = { type = "object" },
  },
}

local IF_NONE_MATCH = {
  name = "If-None-Match", ["in"] = "header", required = false, schema = { type = "string" },
  description = "The ETag of an earlier answer: 304 without a body as long as it holds.",
}

local M = {}

---@class macp.OpenapiDocument what a document is made of
---@field schemas table<string, table> by title

local export

local function export_plain(schema, doc)
  local out = {}
  for key, value in pairs(schema) do out[key] = export(value, doc) end
  if OWN_FORMATS[out.format] then out.format = nil end
  if type(out.uniqueItems) == "string" then out.uniqueItems = true end
  if type(schema.discriminator) == "table" and schema.discriminator.mapping then
    out.discriminator, out.oneOf = nil, json.array({})
    for _, name in ipairs(tables.sorted_keys(schema.discriminator.mapping)) do
      table.insert(out.oneOf, export(schema.discriminator.mapping[name], doc))
    end
  end
  return json.object(out)
end

-- A schema with a title is a component; two different ones of one title are a mistake.
local function component(schema, doc)
  local name = schema.title:gsub("[^%w_]", "")
  local made = export_plain(schema, doc)
  local known = doc.schemas[name]
  if known and json.canonical(known) ~= json.canonical(made) then
    error("two schemas of the document are called " .. name, 0)
  end
  doc.schemas[name] = made
  return { ["$ref"] = "#/components/schemas/" .. name }
end

export = function(schema, doc)
  if type(schema) ~= "table" then return schema end
  if #schema > 0 or json.is_array(schema) then
    local list = json.array({})
    for i, item in ipairs(schema) do list[i] = export(item, doc) end
    return list
  end
  if type(schema.title) == "string" and (schema.type or schema.oneOf or schema.anyOf) then
    return component(schema, doc)
  end
  return export_plain(schema, doc)
end

-- A named schema is left to a description: names are contracts documented elsewhere.
local function shape(returns, doc)
  if type(returns) == "string" then return { type = "object", description = returns } end
  return export(returns, doc)
end

local function path_parameters(route, list, doc)
  local declared = route.params and route.params.properties or {}
  for name in route.path:gmatch("[:*]([%w_]+)") do
    local schema = declared[name] or { type = "string", format = name == "id" and "uuid" or nil }
    list[#list + 1] = { name = name, ["in"] = "path", required = true, schema = export(schema, doc) }
  end
end

local function named_parameters(declared, place, list, doc)
  if declared == nil then return end
  local required = tables.set(declared.required or {})
  for _, name in ipairs(tables.sorted_keys(declared.properties or {})) do
    local schema = declared.properties[name]
    list[#list + 1] = {
      name = name, ["in"] = place, required = required[name] or false, schema = export(schema, doc),
      description = schema.description,
    }
  end
end

-- What the pipeline answers before and besides the handler, and what the route says that it refuses.
local function refusals(route)
  local out = { [400] = true, [414] = true }
  if not route.public then out[401], out[403], out[503] = true, true, true end
  if route.path:find("[:*]") then out[404] = true end
  if route.body then out[413], out[415] = true, true end
  if route.rate ~= "none" then out[429] = true end
  if keyed.is_keyed(route) then out[409] = true end
  for _, status in ipairs(route.refuses or {}) do out[status] = true end
  return out
end

local RETRY_AFTER = { ["Retry-After"] = {
  description = "Seconds after which another try is worth it.", schema = { type = "integer" } } }
local RETRIED = { [429] = true, [503] = true }

local function failure(description, status)
  return {
    description = description, headers = RETRIED[status] and RETRY_AFTER or nil,
    content = { ["application/json"] = { schema = { ["$ref"] = "#/components/schemas/Error" } } },
  }
end

-- returns = schema, or { content = { [media type] = schema } }.
local function content_of(route, status, returns, doc)
  if status == 204 then return nil end
  local content = {}
  for media, schema in pairs(type(returns) == "table" and returns.content or {
    [route.raw and "text/event-stream" or "application/json"] = returns,
  }) do
    content[media] = { schema = shape(schema, doc) }
  end
  return content
end

local function responses(route, doc)
  local out = {}
  for status in pairs(refusals(route)) do
    out[tostring(status)] = failure(REFUSALS[status] or error("no words for status " .. status, 0),
      status)
  end
  for status, returns in pairs(route.returns) do
    out[tostring(status)] = {
      description = REASONS[status] or "Answer", content = content_of(route, status, returns, doc),
    }
  end
  if route.etag then
    out["304"] = { description = REASONS[304] }
    out["200"].headers = { ETag = { description = "Names this very answer.", schema = { type = "string" } } }
  end
  out.default = failure("Failure")
  return out
end

local function operation_id(route)
  local words = { route.method:lower() }
  for word in route.path:gmatch("[%w]+") do words[#words + 1] = word:sub(1, 1):upper() .. word:sub(2) end
  return table.concat(words)
end

local function operation(route, doc)
  local parameters = json.array({})
  path_parameters(route, parameters, doc)
  named_parameters(route.query, "query", parameters, doc)
  named_parameters(route.headers, "header", parameters, doc)
  if route.etag then parameters[#parameters + 1] = IF_NONE_MATCH end
  if keyed.is_keyed(route) then parameters[#parameters + 1] = keyed.PARAMETER end
  local out = {
    operationId = operation_id(route), summary = route.summary, description = route.description,
    tags = route.tag and json.array({ route.tag }) or nil, parameters = parameters, responses = responses(route, doc),
    security = route.public and json.array({}) or nil,
  }
  if route.body then
    local needed = route.body.required ~= nil and #route.body.required > 0
    out.requestBody = { required = needed, content = { ["application/json"] = { schema = export(route.body, doc) } } }
  end
  if route.scope then out["x-scope"] = route.scope end
  return out
end

---@param routes table[]
---@param info { title: string, version: string }
---@return table OpenAPI 3.1 document
function M.document(routes, info)
  local paths, doc = {}, { schemas = { Error = ERROR_SCHEMA } }
  for _, route in ipairs(routes) do
    local path = route.path:gsub("[:*]([%w_]+)", "{%1}")
    paths[path] = paths[path] or {}
    paths[path][route.method:lower()] = operation(route, doc)
  end
  return {
    openapi = "3.1.0", paths = json.object(paths),
    info = { title = info.title, version = info.version, license = { name = "Apache 2.0", identifier = "Apache-2.0" } },
    servers = json.array({ { url = "/" } }),
    components = {
      schemas = json.object(doc.schemas),
      securitySchemes = { apiKey = { type = "http", scheme = "bearer", description = "An API key." } },
    },
    security = json.array({ { apiKey = json.array({}) } }),
  }
end

return M
