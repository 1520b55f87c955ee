-- Codecs of the MACP messages, built once from the descriptor set inside the program, and the table of RPCs.

local embed = require("host.embed")
local proto = require("host.proto")

local SERVICE = "macp.v1.MACPRuntimeService"

-- name -> { request, response, kind }. Payload types follow the method's name.
local KINDS = {
  Initialize = "unary", Send = "unary", StreamSession = "bidi", GetSession = "unary", CancelSession = "unary",
  SuspendSession = "unary", ResumeSession = "unary", GetManifest = "unary", ListModes = "unary",
  WatchModeRegistry = "server_stream", ListRoots = "unary", WatchRoots = "server_stream", ListExtModes = "unary",
  RegisterExtMode = "unary", UnregisterExtMode = "unary", PromoteMode = "unary", WatchSignals = "server_stream",
  ListSessions = "unary", WatchSessions = "server_stream", RegisterPolicy = "unary", UnregisterPolicy = "unary",
  GetPolicy = "unary", ListPolicies = "unary", WatchPolicies = "server_stream",
}

-- Payload messages that belong to no single mode.
local CORE_PAYLOADS = {
  SessionStart = "macp.v1.SessionStartPayload",
  Commitment = "macp.v1.CommitmentPayload",
  Signal = "macp.v1.SignalPayload",
  Progress = "macp.v1.ProgressPayload",
  SessionCancel = "macp.v1.SessionCancelPayload",
  SessionSuspend = "macp.v1.SessionSuspendPayload",
  SessionResume = "macp.v1.SessionResumePayload",
}

local M = { SERVICE = SERVICE }

local pool
local codecs = {}

---The descriptor pool of every message in proto/, loaded at first use.
function M.pool()
  if pool == nil then
    pool = assert(proto.load(assert(embed.read("proto/macp.pb"), "the descriptor set is not embedded")))
  end
  return pool
end

---A codec for one message, cached. Field names are those of the .proto files, bytes are raw, and decoding fills
---proto3 defaults unless told otherwise.
---@param name string full name, e.g. "macp.v1.Envelope"
---@param opts? { enums?: "name"|"number", defaults?: boolean, names?: "proto"|"json", bytes?: "raw"|"base64" }
function M.codec(name, opts)
  opts = opts or {}
  local enums, names, bytes = opts.enums or "name", opts.names or "proto", opts.bytes or "raw"
  local defaults = opts.defaults ~= false
  local key = table.concat({ name, enums, names, bytes, tostring(defaults) }, "|")
  local codec = codecs[key]
  if codec == nil then
    codec = M.pool():codec(name, { enums = enums, names = names, bytes = bytes, defaults = defaults })
    codecs[key] = codec
  end
  return codec
end

---One RPC of the service by its short name: its path, kind and message names.
---@param method string e.g. "Send"
---@return { path: string, kind: string, request: string, response: string }
function M.rpc(method)
  local kind = assert(KINDS[method], method)
  return {
    path = "/" .. SERVICE .. "/" .. method,
    kind = kind,
    request = "macp.v1." .. method .. "Request",
    response = "macp.v1." .. method .. "Response",
  }
end

---Names of all RPCs of the service, sorted.
function M.methods()
  local names = {}
  for name in pairs(KINDS) do names[#names + 1] = name end
  table.sort(names)
  return names
end

---Full name of the payload message of a type that no mode defines, or nil.
---@param message_type string
---@return string|nil
function M.core_payload(message_type) return CORE_PAYLOADS[message_type] end

return M
