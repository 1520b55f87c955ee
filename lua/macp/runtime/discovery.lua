-- What may be asked without credentials: Initialize, the manifest, the modes, health.

local rpc = require("host.rpc")
local sys = require("host.sys")

local codes = require("macp.protocol.codes")
local manifest = require("macp.protocol.manifest")
local messages = require("macp.protocol.messages")

local STATUS = rpc.status
local STANDARD_PREFIX = "macp.mode."
local STANDARD_ORDER = {
  "macp.mode.decision.v1", "macp.mode.proposal.v1", "macp.mode.task.v1", "macp.mode.handoff.v1",
  "macp.mode.quorum.v1",
}
local SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3

local M = {}

local cached = {}

local function codec(name)
  cached[name] = cached[name] or messages.codec(name, { enums = "number" })
  return cached[name]
end

local function decoded(call, name)
  local request, err = codec(name):decode(call:request())
  if request == nil then call:fail(STATUS.INTERNAL, "the request does not decode: " .. err.message) end
  return request
end

local function reply(call, name, value) call:reply(assert(codec(name):encode(value))) end

local function is_standard(descriptor) return descriptor.mode:sub(1, #STANDARD_PREFIX) == STANDARD_PREFIX end

---Ids of all registered modes, ascending by byte, each once.
function M.mode_ids(modes)
  local ids, seen = {}, {}
  for _, descriptor in ipairs(modes:list()) do
    if not seen[descriptor.mode] then ids[#ids + 1] = descriptor.mode end
    seen[descriptor.mode] = true
  end
  table.sort(ids)
  return ids
end

function M.initialize(service, call)
  local request = decoded(call, "macp.v1.InitializeRequest")
  if request == nil then return end
  local versions = request.supported_protocol_versions
  if #versions == 0 then return call:fail(STATUS.INVALID_ARGUMENT, "supported_protocol_versions is empty") end
  for _, version in ipairs(versions) do
    if version == codes.VERSION then
      return reply(call, "macp.v1.InitializeResponse", manifest.initialize_response({
        version = sys.version, modes = M.mode_ids(service.modes), offers = service.offers,
      }))
    end
  end
  call:fail(STATUS.FAILED_PRECONDITION, "UNSUPPORTED_PROTOCOL_VERSION: this runtime speaks " .. codes.VERSION)
end

function M.get_manifest(service, call)
  local request = decoded(call, "macp.v1.GetManifestRequest")
  if request == nil then return end
  if request.agent_id ~= "" and request.agent_id ~= manifest.AGENT_ID then
    return call:fail(STATUS.NOT_FOUND, "no manifest of this agent")
  end
  reply(call, "macp.v1.GetManifestResponse", { manifest = manifest.agent_manifest(M.mode_ids(service.modes)) })
end

-- Standard modes in the protocol's order, others by id.
local function sort_modes(list)
  local rank = {}
  for i, id in ipairs(STANDARD_ORDER) do rank[id] = i end
  table.sort(list, function(a, b)
    local left, right = rank[a.mode] or math.huge, rank[b.mode] or math.huge
    if left ~= right then return left < right end
    if a.mode ~= b.mode then return a.mode < b.mode end
    return a.mode_version < b.mode_version
  end)
  return list
end

local function select_modes(service, want_standard)
  local list = {}
  for _, descriptor in ipairs(service.modes:list()) do
    if is_standard(descriptor) == want_standard then list[#list + 1] = descriptor end
  end
  return sort_modes(list)
end

function M.list_modes(service, call)
  reply(call, "macp.v1.ListModesResponse", { modes = select_modes(service, true) })
end

function M.list_ext_modes(service, call)
  reply(call, "macp.v1.ListExtModesResponse", { modes = select_modes(service, false) })
end

local function is_known_service(name) return name == "" or name == messages.SERVICE end

local function health_check(service, call)
  local request = decoded(call, "grpc.health.v1.HealthCheckRequest")
  if request == nil then return end
  if not is_known_service(request.service) then return call:fail(STATUS.NOT_FOUND, "unknown service") end
  reply(call, "grpc.health.v1.HealthCheckResponse", { status = service.health.serving and SERVING or NOT_SERVING })
end

-- Writes the status now and whenever it changes. (yields)
local function health_watch(service, call)
  local request = decoded(call, "grpc.health.v1.HealthCheckRequest")
  if request == nil then return end
  local health, written = service.health, nil
  while not call:cancelled() do
    local status = health.serving and SERVING or NOT_SERVING
    if not is_known_service(request.service) then status = SERVICE_UNKNOWN end
    if status ~= written then
      local bytes = assert(codec("grpc.health.v1.HealthCheckResponse"):encode({ status = status }))
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
