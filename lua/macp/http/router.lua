-- Method and path -> route and parameters. A trie of path segments: fixed segments win over parameters, those over the
-- rest of a path, and looking up costs as much as the path has segments, however many routes there are.

local tables = require("macp.core.tables")
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

-- A stream has no head worth asking for: HEAD stands for GET only where the reply ends.
local function serves_head(methods)
  return methods.HEAD == nil and methods.GET ~= nil and not methods.GET.raw
end

-- What a node does for a method: its route, and the method of that.
local function route_of(node, method)
  local methods = node.methods
  if methods == nil then return nil end
  if method == "HEAD" and serves_head(methods) then method = "GET" end
  return methods[method], method
end

-- Whether the search ends at a node: it has the method. Without a method it never does, and all that nodes have is noted.
local function ends_at(node, method, noted)
  if method then return route_of(node, method) ~= nil end
  for name in pairs(node.methods or {}) do noted[name] = true end
  if node.methods and serves_head(node.methods) then noted.HEAD = true end
  return false
end

-- Depth first, fixed segments first; values collects what parameters matched.
local function descend(node, segments, at, values, method, noted)
  local segment = segments[at]
  if segment == nil then return ends_at(node, method, noted) and node or nil end
  local child = node.fixed[segment]
  if child then
    local found = descend(child, segments, at + 1, values, method, noted)
    if found then return found end
  end
  local depth = #values + 1
  if node.param then
    values[depth] = segment
    local found = descend(node.param, segments, at + 1, values, method, noted)
    if found then return found end
    values[depth] = nil
  end
  if node.rest == nil or not ends_at(node.rest, method, noted) then return nil end
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

-- The methods that a path has, whichever routes have them; nil for none.
local function methods_of(self, segments)
  local noted = {}
  descend(self.root, segments, 1, {}, nil, noted)
  return next(noted) ~= nil and tables.sorted_keys(noted) or nil
end

---Among the routes that have the method, fixed segments win over parameters.
---@param method string HEAD is served by GET
---@param path string as in the request, without the query
---@return table|nil route
---@return table|string[]|nil params by name, as they were sent where their percent-encoding is broken or no UTF-8;
--- without a route the methods that the path has, or nil for an unknown path
---@return string|nil broken the name of such a parameter
function Router:match(method, path)
  local node, values = self.exact[path], nil
  if node == nil or route_of(node, method) == nil then
    local segments = split(path)
    values = {}
    if #segments > MAX_SEGMENTS then return nil, nil end
    node = descend(self.root, segments, 1, values, method)
    if node == nil then return nil, methods_of(self, segments) end
  end
  local route, served = route_of(node, method)
  local params, broken = {}, nil
  local names = node.names[served]
  for i = 1, #names do
    local value = decode(values[i])
    if value == nil then broken = broken or names[i] end
    params[names[i]] = value or values[i]
  end
  return route, params, broken
end

return M
