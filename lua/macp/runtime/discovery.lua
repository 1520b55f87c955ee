-- What may be asked without credentials: Initialize, the manifest, the modes, health.

local rpc = require("host.rpc")
local sys = require("host.sys")

local codes = require("macp.protocol.codes")
local manifest = require("macp.protocol.manifest")
local messages = require("macp.protocol.messages")
local wire = require("macp.runtime.wire")

local STATUS = rpc.status
local SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3

local M = {}

---Ids of all modes, ascending by byte, each once.
function M.mode_ids(modes)
  local ids = {}
  for i, entry in ipairs(modes:entries()) do ids[i] = entry.id end
  table.sort(ids)
  return ids
end

---Initialize: agrees on the version of the protocol and tells what this runtime offers.
function M.initialize(service, call)
  local request = wire.request(call, "macp.v1.InitializeRequest")
  if request == nil then return end
  local versions = request.supported_protocol_versions
  if #versions == 0 then return call:fail(STATUS.INVALID_ARGUMENT, "supported_protocol_versions is empty") end
  for _, version in ipairs(versions) do
    if version == codes.VERSION then
      return wire.reply(call, "macp.v1.InitializeResponse", manifest.initialize_response({
        version = sys.version, modes = M.mode_ids(service.modes), offers = service.offers,
      }))
    end
  end
  call:fail(STATUS.FAILED_PRECONDITION, "UNSUPPORTED_PROTOCOL_VERSION: this runtime speaks " .. codes.VERSION)
end

---GetManifest: this runtime as an agent, with the modes it serves.
function M.get_manifest(service, call)
  local request = wire.request(call, "macp.v1.GetManifestRequest")
  if request == nil then return end
  if request.agent_id ~= "" and request.agent_id ~= manifest.AGENT_ID then
    return call:fail(STATUS.NOT_FOUND, "no manifest of this agent")
  end
  wire.reply(call, "macp.v1.GetManifestResponse", { manifest = manifest.agent_manifest(M.mode_ids(service.modes)) })
end

-- Descriptors of one kind, in the order of the registry: standard modes in the protocol's order, the others by id.
local function select_modes(service, want_standard)
  local list = {}
  for _, entry in ipairs(service.modes:entries()) do
    if entry.standard == want_standard then list[#list + 1] = entry.descriptor end
  end
  return list
end

---ListModes: what is on the standards track.
function M.list_modes(service, call)
  if wire.request(call, "macp.v1.ListModesRequest") == nil then return end
  wire.reply(call, "macp.v1.ListModesResponse", { modes = select_modes(service, true) })
end

---ListExtModes: everything else.
function M.list_ext_modes(service, call)
  if wire.request(call, "macp.v1.ListExtModesRequest") == nil then return end
  wire.reply(call, "macp.v1.ListExtModesResponse", { modes = select_modes(service, false) })
end

local function is_known_service(name) return name == "" or name == messages.SERVICE end

local function health_check(service, call)
  local request = wire.request(call, "grpc.health.v1.HealthCheckRequest")
  if request == nil then return end
  if not is_known_service(request.service) then return call:fail(STATUS.NOT_FOUND, "unknown service") end
  local status = service.health.serving and SERVING or NOT_SERVING
  wire.reply(call, "grpc.health.v1.HealthCheckResponse", { status = status })
end

-- Writes the status now and whenever it changes. (yields)
local function health_watch(service, call)
  local request = wire.request(call, "grpc.health.v1.HealthCheckRequest")
  if request == nil then return end
  local health, written = service.health, nil
  while not call:cancelled() do
    local status = health.serving and SERVING or NOT_SERVING
    if not is_known_service(request.service) then status = SERVICE_UNKNOWN end
    if status ~= written then
      local bytes = assert(wire.codec("grpc.health.v1.HealthCheckResponse"):encode({ status = status }))
      if not call:write(bytes) then return end
      written = status
      if health.ended then return call:finish(STATUS.UNAVAILABLE, "the runtime is shutting down") end
    elseif health.ended then
      return call:finish(STATUS.UNAVAILABLE, "the runtime is shutting down")
    elseif not health.changed:wait() then
      return
    end
  end
end

M.HEALTH = { ["/grpc.health.v1.Health/Check"] = health_check, ["/grpc.health.v1.Health/Watch"] = health_watch }
M.HEALTH_KINDS = { ["/grpc.health.v1.Health/Check"] = "unary", ["/grpc.health.v1.Health/Watch"] = "server_stream" }

return M
