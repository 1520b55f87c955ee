-- Method and path -> route and parameters. A trie of path segments: fixed segments win over parameters, those over the
-- rest of a path, and looking up costs as much as the path has segments, however many routes there are.

local utf8 = require("macp.core.utf8")

local MAX_SEGMENTS = 16

---@class macp.Router
local Router = {}
Router.__index = Router

local M = {}

---@return macp.Router
function M.new()
  return setmetatable({ root = { fixed = {} }, exact = {}, count = 0 }, Router)
end

local function split(path)
  local segments = {}
  for segment in path:gmatch("[^/]+") do segments[#segments + 1] = segment end
  return segments
end

local function add_method(node, method, route)
  node.methods = node.methods or {}
  if node.methods[method] then
    error(string.format("route %s %s is declared twice", method, route.path), 0)
  end
  node.methods[method] = route
end

---Adds a route { method, path = "/runs/:id" }; a last segment `*name` takes all that is left of a path, slashes
---included. A second route of the same method and shape raises.
function Router:add(route)
  local node, names = self.root, {}
  for _, segment in ipairs(split(route.path)) do
    local name = segment:match("^:([%w_]+)$")
    local rest = segment:match("^%*([%w_]+)$")
    if rest then
      names[#names + 1] = rest
      node.rest = node.rest or { fixed = {} }
      node = node.rest
    elseif name then
      names[#names + 1] = name
      node.param = node.param or { fixed = {} }
      node = node.param
    else
      node.fixed[segment] = node.fixed[segment] or { fixed = {} }
      node = node.fixed[segment]
    end
  end
  add_method(node, route.method, route)
  node.names = node.names or {}
  node.names[route.method] = names
  if #names == 0 then self.exact[route.path] = node end
  self.count = self.count + 1
end

-- Depth first, fixed segments first; values collects what parameters matched.
local function descend(node, segments, at, values)
  local segment = segments[at]
  if segment == nil then return node.methods and node or nil end
  local child = node.fixed[segment]
  if child then
    local found = descend(child, segments, at + 1, values)
    if found then return found end
  end
  local depth = #values + 1
  if node.param then
    values[depth] = segment
    local found = descend(node.param, segments, at + 1, values)
    if found then return found end
    values[depth] = nil
  end
  if node.rest == nil then return nil end
  values[depth] = table.concat(segments, "/", at)
  return node.rest
end

local function decode_char(hex)
  return string.char(tonumber(hex, 16))
end

-- Percent-decoding of one segment; nil when it is malformed or not UTF-8.
local function decode(text)
  if not text:find("[%%\128-\255]") then return text end
  if text:gsub("%%%x%x", ""):find("%", 1, true) then return nil end
  text = text:gsub("%%(%x%x)", decode_char)
  return utf8.is_text(text) and text or nil
end

local function find_node(self, path)
  local node = self.exact[path]
  if node then return node end
  local segments, values = split(path), {}
  if #segments > MAX_SEGMENTS then return nil end
  node = descend(self.root, segments, 1, values)
  return node, values
end

-- A stream has no head worth asking for: HEAD stands for GET only where the reply ends.
local function serves_head(methods)
  return methods.HEAD == nil and methods.GET ~= nil and not methods.GET.raw
end

local function allowed_methods(methods)
  local allowed = {}
  for name in pairs(methods) do allowed[#allowed + 1] = name end
  if serves_head(methods) then allowed[#allowed + 1] = "HEAD" end
  table.sort(allowed)
  return allowed
end

---@param method string HEAD is served by GET
---@param path string as in the request, without the query
---@return table|nil route
---@return table|string[] params by name; without a route the methods that the path has, or nil for an unknown path
function Router:match(method, path)
  local node, values = find_node(self, path)
  if node == nil then return nil, nil end
  if method == "HEAD" and serves_head(node.methods) then method = "GET" end
  local route = node.methods[method]
  if route == nil then return nil, allowed_methods(node.methods) end
  local params = {}
  local names = node.names[method]
  for i = 1, #names do
    local value = decode(values[i])
    if value == nil then return nil, nil end
    params[names[i]] = value
  end
  return route, params
end

return M
