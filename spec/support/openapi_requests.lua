-- Requests made from an OpenAPI document and a seed: right ones, ones that are wrong in a few places, and ones that are
-- no requests of this interface at all. The n-th request of a seed is always the same but for ids that earlier answers
-- gave.

local json = require("macp.core.json")

local openapi_values = require("spec.support.openapi_values")
local random = require("spec.support.random")

local METHODS = { "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND" }
local CONTENT_TYPES = { "text/plain", "application/x-www-form-urlencoded", "application/xml", "multipart/form-data",
  "application/jsonx", "application", "/", ";", "application/json/x", "image/png; charset=utf-8" }
local JSON_TYPES = { "application/json", "application/json; charset=utf-8", "Application/JSON",
  "application/merge-patch+json" }
local RAW_BODIES = { "{", "[", "nul", "{\"a\":}", "{\"a\":1,}", "\"text\"", "1", "true", "null", "[]", "{}{}",
  "\239\187\191{}",
  "{\"a\":\"\\ud800\"}", "{\"a\":\"\255\"}", "{\"\\u0000\":1}", "{\"a\":1e999}", "{\"a\":01}", "{'a':1}", "\0",
  "{\"a\":\"\1\"}",
  "{\"reason\":\"x\",\"reason\":\"y\"}", "{\"mode\":\"live\",\"mode\":{}}", "-", "1e", "// x", "[1,2" }
local ACCEPTS = { "*/*", "application/json", "application/x-ndjson", "text/event-stream", "text/html", "", "x" }
local WRONG_PATHS = { "/", "/nothing", "/runs/", "/runs//state", "/runs/%zz", "/%00", "/runs/%ff", "/runs/batch",
  "/runs/batch/cancel/x", "/docs-json/x", "/runtime", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q/r", "/RUNS", "/runs/../runs",
  "/%2e%2e/runs", "/runs;x=1", "/runs%2f", "/webhooks/%20", "/admin" }

local Requests = {}
Requests.__index = Requests

local M = {}

local function escape(text)
  return (tostring(text):gsub("[^%w%-._~]", function(char) return string.format("%%%02X", char:byte()) end))
end

-- A segment that reaches the server as it is: what is empty or only dots would be another path.
local function segment(text)
  if text == "" or text == "." or text == ".." then return "%20" end
  return escape(text)
end

---@param document table
---@param seed integer
---@param opts { pools: table<string, table<string, string[]>>, key: string }
--- pools: good values by name; ones of a path begin with its first segment: "runs.id"
function M.new(document, seed, opts)
  local list = {}
  for path, methods in pairs(document.paths) do
    for method, operation in pairs(methods) do
      list[#list + 1] = { path = path, method = method:upper(), operation = operation }
    end
  end
  table.sort(list, function(a, b) return a.path .. a.method < b.path .. b.method end)
  return setmetatable({ document = document, seed = seed, operations = list, pools = opts.pools, key = opts.key },
    Requests)
end

local function path_of(values, op, is_wrong)
  local first = op.path:match("^/([^/]+)")
  return (op.path:gsub("{([%w_]+)}", function(name)
    if is_wrong and values.random:chance(60) then return segment(values:strange_text()) end
    local known = values:pooled(first .. "." .. name) or values:pooled(name)
    local schema = {}
    for _, parameter in ipairs(op.operation.parameters) do
      if parameter.name == name and parameter["in"] == "path" then schema = parameter.schema end
    end
    return segment(known and values.random:chance(90) and known or values:of(schema, name))
  end))
end

local function query_of(values, op, is_wrong)
  local pairs_, chance = {}, values.random
  for _, parameter in ipairs(op.operation.parameters) do
    if parameter["in"] == "query" and (parameter.required or chance:chance(35)) then
      local value = values:of(parameter.schema, parameter.name)
      if is_wrong and chance:chance(50) then
        value = chance:chance(50) and values:strange_text() or values:strange_number()
      end
      pairs_[#pairs_ + 1] = escape(parameter.name) .. "=" .. escape(value)
    end
  end
  if is_wrong and chance:chance(30) then
    pairs_[#pairs_ + 1] = escape(values:strange_text()) .. "=" .. escape(values:strange_text())
  end
  if is_wrong and chance:chance(5) then
    pairs_[#pairs_ + 1] = chance:pick({ "&&", "=", "%", "a=%zz", "a=%ff", "x=1&x=2", "=&=" })
  end
  return #pairs_ > 0 and "?" .. table.concat(pairs_, "&") or ""
end

local TOO_DEEP = 5000

local function body_of(values, op, request, is_wrong)
  local chance = values.random
  local described = op.operation.requestBody
  if described == nil then
    if is_wrong and chance:chance(20) and op.method ~= "GET" then request.body = chance:pick(RAW_BODIES) end
    return
  end
  local value = values:of(described.content["application/json"].schema)
  if is_wrong then value = values:broken(value) end
  local fits, text = pcall(json.encode, value)
  request.body = fits and text or ("["):rep(TOO_DEEP) -- broken into a depth that our own encoder refuses
  request.headers["content-type"] = chance:chance(90) and JSON_TYPES[1] or chance:pick(JSON_TYPES)
  if not is_wrong then return end
  if chance:chance(8) then request.body = chance:pick(RAW_BODIES) end
  if chance:chance(4) then request.body = ("["):rep(chance:int(20, 5000)) end
  if chance:chance(4) then request.body = request.body:sub(1, chance:int(0, #request.body)) end
  if chance:chance(1) and chance:chance(30) then request.body = "{\"reason\":\"" .. ("x"):rep(1048577) .. "\"}" end
  if chance:chance(5) then request.headers["content-type"] = chance:pick(CONTENT_TYPES) end
  if chance:chance(5) then request.body = "" end
end

local function headers_of(self, values, request, is_wrong)
  local chance, headers = values.random, request.headers
  headers.authorization = "Bearer " .. self.key
  if is_wrong and chance:chance(4) then
    headers.authorization = chance:pick({ "", "Bearer", "Bearer ", "Basic eDp5", self.key .. "x",
      "bearer " .. self.key })
  end
  if chance:chance(10) then headers.accept = chance:pick(ACCEPTS) end
  if chance:chance(10) then
    headers.origin = chance:pick({ "http://localhost:3000", "https://evil.example", "null" })
  end
  if chance:chance(10) then headers["if-none-match"] = chance:pick({ "*", "W/\"x\"", "\"\"", "x", ",," }) end
  if chance:chance(5) then
    headers["last-event-id"] = chance:pick({ "0", "3", "99999999999999999999", "x", "-1" })
  end
  if chance:chance(8) then
    headers["idempotency-key"] = chance:pick({ "k" .. chance:int(1, 50), "", ("k"):rep(256), "key with words",
      "\195\169" })
  end
  if chance:chance(8) then
    headers["x-request-id"] = chance:pick({ "spec:1.a-b_c", ("r"):rep(129), "not harmless!", "", "\195\169" })
  end
  return headers
end

---@class spec.OpenapiRequest
---@field op table|nil { path, method, operation }; nil when no such operation exists
---@field method string
---@field path string with the query
---@field headers table
---@field body string|nil
---@field kind string "right", "wrong", "method" or "path"

---The n-th request.
---@return spec.OpenapiRequest
function Requests:make(n)
  local chance = random.new(self.seed + n * 7919)
  local values = openapi_values.new(chance, self.document, self.pools)
  local dice = chance:int(1, 100)
  local kind = dice <= 42 and "right" or dice <= 92 and "wrong" or dice <= 97 and "method" or "path"
  local op = chance:pick(self.operations)
  local is_wrong = kind == "wrong"
  local request = { n = n, kind = kind, op = op, method = op.method, headers = {} }
  headers_of(self, values, request, is_wrong)
  if kind == "path" then
    request.op, request.method, request.path = nil, chance:pick(METHODS), chance:pick(WRONG_PATHS)
    return request
  end
  request.path = path_of(values, op, is_wrong) .. query_of(values, op, is_wrong)
  if kind == "method" then
    request.method = chance:pick(METHODS)
    local own = self.document.paths[op.path][request.method:lower()]
    request.op = own and { path = op.path, method = request.method, operation = own } or nil
    return request
  end
  body_of(values, op, request, is_wrong)
  return request
end

---The request as one line, for the message of a failure.
function M.told(request)
  local body = request.body and request.body:gsub("[%c\127-\255]", function(char)
    return string.format("\\x%02x", char:byte())
  end)
  if body and #body > 600 then body = body:sub(1, 600) .. "... (" .. #request.body .. " bytes)" end
  return string.format("request %d (%s): %s %s %s %s", request.n, request.kind, request.method,
    request.path:sub(1, 600), json.encode(request.headers), body or "")
end

return M
