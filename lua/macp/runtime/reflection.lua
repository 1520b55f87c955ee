-- gRPC server reflection (grpc.reflection.v1 and v1alpha, which differ in the name only): tools such as grpcurl list and
-- describe the services, and the payloads of the modes that are served now: those of standard modes in the protocol's
-- files, those of every other mode with a folder in a file of its own, modes/<mode id>.proto. Off unless
-- MACP_REFLECTION=1. It tells what proto/, ListModes and ListExtModes tell, so it asks for no credential.

local embed = require("host.embed")
local rpc = require("host.rpc")

local descriptors = require("macp.protocol.descriptors")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local proto_file = require("macp.modes.proto_file")

local STATUS = rpc.status
local METHOD = "/%s.ServerReflection/ServerReflectionInfo"
local PACKAGES = { "grpc.reflection.v1", "grpc.reflection.v1alpha" }
local INTERNAL = "^macp%.internal%." -- records of the journal are nobody's business
local MODE_FILE = "modes/%s.proto"
local SHOWN_BYTES = 200

local Reflection = {}
Reflection.__index = Reflection

local M = {}

-- Files of the modes that are served now, made when somebody asks for one after a change.
local function mode_files(self)
  if self.of_modes == nil then
    self.of_modes = descriptors.empty()
    for _, entry in ipairs(self.modes:entries()) do
      local model = self.modes:get(entry.id).model
      local is_known = model.template or self.files:has_package(model.package)
      local bytes = not is_known and proto_file.render(model, MODE_FILE:format(entry.id))
      if bytes then self.of_modes:add(bytes) end
    end
  end
  return self.of_modes
end

---@param paths table<string, any> by path: the methods that are served
---@param modes table the mode registry
function M.new(paths, modes)
  local files = descriptors.new(assert(embed.read("proto/macp.pb"), "the descriptor set is not embedded"))
  local self = setmetatable({ files = files, modes = modes, services = {}, open = {} }, Reflection)
  modes:on_change(function() self.of_modes = nil end)
  local served = {}
  for path in pairs(paths) do served[path:match("^/(.+)/")] = true end
  for _, package in ipairs(PACKAGES) do served[package .. ".ServerReflection"] = true end
  for _, name in ipairs(files.services) do
    if served[name] then self.services[#self.services + 1] = { name = name } end
  end
  table.sort(self.services, function(a, b) return a.name < b.name end)
  return self
end

local function error_response(status, format, name)
  return { error_response = { error_code = status, error_message = string.format(format,
    json.quoted(name, SHOWN_BYTES)) } }
end

local function file_response(list, format, name)
  if list == nil then return error_response(STATUS.NOT_FOUND, format, name) end
  return { file_descriptor_response = { file_descriptor_proto = json.array(list) } }
end

local function is_internal(name) return name:gsub("/", "."):find(INTERNAL) ~= nil end

-- What is answered to one request.
local function answer(self, request)
  local files = self.files
  if request.list_services ~= nil then
    return { list_services_response = { service = json.array(self.services) } }
  end
  local name = request.file_by_filename
  if name ~= nil then
    local found = not is_internal(name) and (files:file(name) or mode_files(self):file(name))
    return file_response(found or nil, "file %s is not known", name)
  end
  name = request.file_containing_symbol
  if name ~= nil then
    local found = not is_internal(name) and (files:defining(name) or mode_files(self):defining(name))
    return file_response(found or nil, "symbol %s is not known", name)
  end
  name = request.all_extension_numbers_of_type
  if name ~= nil then
    if is_internal(name) or not (files:has(name) or mode_files(self):has(name)) then
      return error_response(STATUS.NOT_FOUND, "type %s is not known", name)
    end
    return { all_extension_numbers_response = { base_type_name = name, extension_number = json.array({}) } }
  end
  local extension = request.file_containing_extension
  if extension ~= nil then
    return error_response(STATUS.NOT_FOUND, "%s has no extensions", extension.containing_type)
  end
  return error_response(STATUS.INVALID_ARGUMENT, "the request asks for nothing%.0s", "")
end

-- Serves one call to its end. (yields)
local function serve(self, call, package)
  local request_codec = messages.codec(package .. ".ServerReflectionRequest", { enums = "number", defaults = false })
  local response_codec = messages.codec(package .. ".ServerReflectionResponse", { enums = "number" })
  while true do
    local bytes, err = call:read()
    if bytes == nil then
      if err == nil then call:finish(STATUS.OK) end
      return
    end
    local request, problem = request_codec:decode(bytes)
    if request == nil then
      return call:finish(STATUS.INTERNAL, "the message does not decode: " .. problem.message)
    end
    local response = answer(self, request)
    response.valid_host, response.original_request = request.host, request
    if not call:write(assert(response_codec:encode(response))) then return end
  end
end

---Handlers by path, as of macp.runtime.service.
function Reflection:handlers()
  local handlers = {}
  for _, package in ipairs(PACKAGES) do
    handlers[METHOD:format(package)] = function(_, call, scope)
      self.open[call] = true
      scope.on_close = function() self.open[call] = nil end
      serve(self, call, package)
    end
  end
  return handlers
end

---Kinds by path, for host.rpc.
function Reflection:kinds()
  local kinds = {}
  for path in pairs(self:handlers()) do kinds[path] = "bidi" end
  return kinds
end

---Ends what is open: for shutdown.
function Reflection:close()
  for call in pairs(self.open) do call:finish(STATUS.UNAVAILABLE, "the runtime is shutting down") end
end

return M
