-- What must be true of every answer, by the OpenAPI document: a documented status, a body of its schema, the headers
-- that each reply carries.

local errors = require("macp.core.errors")
local ids = require("macp.core.ids")
local json = require("macp.core.json")
local tables = require("macp.core.tables")

local json_schema = require("spec.support.json_schema")

local CODES = tables.set(errors.codes())
local ERROR = { ["$ref"] = "#/components/schemas/Error" }

local M = {}

local function decoded(text)
  local value, err = json.decode(text)
  if err then return nil, "the body is no JSON (" .. err.message .. "): " .. text:sub(1, 200) end
  return value
end

local function check_error(document, status, text)
  local value, problem = decoded(text)
  if problem then return problem end
  local ok, why = json_schema.check(ERROR, value, document)
  if not ok then return "no error body: " .. why end
  if value.statusCode ~= status then return "statusCode is " .. value.statusCode end
  if not CODES[value.errorCode] then return "errorCode " .. value.errorCode .. " is not in the table" end
  return nil
end

local CHECKS = {}

CHECKS["application/json"] = function(document, schema, text)
  local value, problem = decoded(text)
  if problem then return problem end
  local ok, why = json_schema.check(schema, value, document)
  return not ok and why or nil
end

CHECKS["application/x-ndjson"] = function(document, schema, text)
  for line in text:gmatch("[^\n]+") do
    local problem = CHECKS["application/json"](document, schema, line)
    if problem then return "line: " .. problem end
  end
  return text == "" and "no line" or nil
end

CHECKS["text/event-stream"] = function(_, _, text)
  return text:sub(1, 1) ~= "\n" and "no event stream: " .. text:sub(1, 100) or nil
end

local function check_body(document, described, reply)
  local content_type = reply.headers["content-type"]
  if described.content == nil then
    return (reply.text ~= "" or content_type ~= nil) and "has a body, none is described" or nil
  end
  local media = content_type and content_type:match("^[^;]+")
  local entry = described.content[media]
  if entry == nil then return "content type " .. tostring(content_type) .. " is not described" end
  local verdict = CHECKS[media]
  return verdict and verdict(document, entry.schema or {}, reply.text) or nil
end

local function check_headers(request, reply, origin)
  local headers, given = reply.headers, request.headers["x-request-id"]
  if given and ids.is_request_id(given) then
    if headers["x-request-id"] ~= given then return "x-request-id is not the given one" end
  elseif not ids.is_uuid(headers["x-request-id"] or "") then
    return "x-request-id is " .. tostring(headers["x-request-id"])
  end
  if headers["access-control-allow-origin"] ~= origin then return "access-control-allow-origin is missing" end
  if headers["access-control-allow-credentials"] ~= "true" then return "access-control-allow-credentials is missing" end
  if not (headers["vary"] or ""):find("Origin", 1, true) then return "vary does not name Origin" end
  return nil
end

-- Answers to what the document does not describe: another method, another path.
local function check_undescribed(document, request, reply, opts)
  if request.method == "OPTIONS" then
    return (reply.status ~= 204 or reply.text ~= "") and "a preflight is answered with " .. reply.status or nil
  end
  if request.method == "HEAD" then
    local is_wrong = reply.text ~= "" or (reply.status >= 500 and not opts.away)
    return is_wrong and "HEAD is answered with " .. reply.status or nil
  end
  if request.kind == "method" and reply.status == 404 and not reply.headers.allow then return "404 without Allow" end
  -- 400: a fixed path that lacks the method is an id to another route.
  if request.kind == "method" and reply.status ~= 404 and reply.status ~= 400 then
    return "a method that is not described is answered with " .. reply.status
  end
  return (reply.status >= 400 and reply.status < 500 or request.kind == "method") and
    check_error(document, reply.status, reply.text) or nil
end

---@param document table
---@param request spec.OpenapiRequest
---@param reply { status: integer, headers: table, text: string }
---@param opts { origin: string, away: boolean|nil } away: 5xx that the document names for what does not answer are
--- right
---@return string|nil problem
function M.problem(document, request, reply, opts)
  local wrong = check_headers(request, reply, opts.origin)
  if wrong then return wrong end
  if request.op == nil then return check_undescribed(document, request, reply, opts) end
  local described = request.op.operation.responses[tostring(reply.status)]
  if described == nil then return "status " .. reply.status .. " is not described: " .. reply.text:sub(1, 300) end
  local is_callback = reply.status == 502 and request.path:find("/cancel", 1, true) -- its receiver is not there
  if reply.status >= 500 and not opts.away and not is_callback then
    return "status " .. reply.status .. ": " .. reply.text:sub(1, 300)
  end
  if request.method == "HEAD" then return reply.text ~= "" and "HEAD has a body" or nil end
  wrong = check_body(document, described, reply)
  if wrong or reply.status < 400 then return wrong end
  return described.content and described.content["application/json"].schema["$ref"] == ERROR["$ref"]
    and check_error(document, reply.status, reply.text) or nil
end

return M
