-- A runtime role inside the test program, on a free port, and a client of it over real gRPC on loopback.

local fs = require("host.fs")
local rpc = require("host.rpc")

local config = require("macp.config")
local messages = require("macp.protocol.messages")
local metrics = require("macp.telemetry.metrics")

local Rig = {}
Rig.__index = Rig

local M = {}

local MAX_MESSAGE_BYTES = 64 * 1024 * 1024
local NUMBERS = { enums = "number" }

local function codec(name) return messages.codec("macp.v1." .. name, NUMBERS) end

---Starts a role. opts.env adds variables, opts.modes makes another mode registry, opts.dir reuses a directory. (yields)
---@return table|nil rig, table? err
function M.start(opts)
  opts = opts or {}
  local dir = opts.dir or assert(fs.temp_dir("macp-runtime-"))
  local env = {
    MACP_ALLOW_INSECURE = "1", MACP_BIND_ADDR = "127.0.0.1:0", MACP_DATA_DIR = dir,
    MACP_MESSAGE_LIMIT_PER_MINUTE = "1000000", MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000",
  }
  for name, value in pairs(opts.env or {}) do env[name] = value or nil end
  local cfg = assert(config.load(env))
  local rig = setmetatable({ dir = dir, opts = opts, metrics = metrics.new() }, Rig)
  local role, err = require("macp.runtime").start(cfg, {
    metrics = rig.metrics,
    modes = function(given)
      if opts.modes then return opts.modes(given) end
      return require("macp.modes.registry").new({
        dirs = opts.mode_dirs or {}, archive = given.archive, strict_supersedes = cfg.runtime.strict_supersedes,
        lenient_outcomes = cfg.runtime.lenient_outcomes,
      })
    end,
  })
  if role == nil then
    if not opts.dir then fs.remove_tree(dir) end
    return nil, err
  end
  rig.role = role
  rig.channel = M.connect(role.address).channel
  return rig
end

---A client of a runtime that runs elsewhere. Close its `channel`.
function M.connect(address)
  local opts = { target = address, max_message_bytes = MAX_MESSAGE_BYTES, own_connection = true }
  local channel = assert(rpc.channel(opts))
  return setmetatable({ channel = channel }, Rig)
end

---Stops the role; the directory stays for `again`. (yields)
function Rig:stop()
  self.channel:close()
  self.role:drain(2000)
  self.role:close()
end

---Stops the role and removes what it wrote. (yields)
function Rig:destroy()
  self:stop()
  fs.remove_tree(self.dir)
end

---Stops the role and starts it on the same data. (yields)
function Rig:again(env)
  self:stop()
  local opts = { dir = self.dir, env = env or self.opts.env, modes = self.opts.modes, mode_dirs = self.opts.mode_dirs }
  return assert(M.start(opts))
end

local function as(token) return token and { authorization = "Bearer " .. token } or {} end

---One unary call. Returns the decoded response, or nil, err with err.status. (yields)
function Rig:call(token, method, request)
  local path = messages.rpc(method).path
  local bytes = type(request) == "string" and request or assert(codec(method .. "Request"):encode(request or {}))
  local answer, err = self.channel:unary(path, bytes, { metadata = as(token), timeout_ms = 20000 })
  if answer == nil then return nil, err end
  return assert(codec(method .. "Response"):decode(answer))
end

---Sends an envelope; returns its ack. (yields)
function Rig:send(token, envelope)
  local response = assert(self:call(token, "Send", { envelope = envelope }))
  return response.ack
end

---An envelope with the usual fields.
function M.envelope(fields)
  local envelope = {
    macp_version = "1.0", mode = "macp.mode.decision.v1", message_type = "Proposal", message_id = "m1",
    session_id = "", payload = "",
  }
  for key, value in pairs(fields) do envelope[key] = value end
  return envelope
end

---Payload bytes of a message by its full name.
function M.payload(name, fields) return assert(messages.codec(name):encode(fields)) end

---A SessionStart envelope; payload fields over the usual ones.
function M.start_envelope(session_id, fields, changes)
  local payload = {
    intent = "pick one", participants = { "ann", "bob" }, mode_version = "1.0.0",
    configuration_version = "config.default", policy_version = "", ttl_ms = 60000,
  }
  for key, value in pairs(fields or {}) do payload[key] = value end
  local envelope = M.envelope({
    message_type = "SessionStart", message_id = "start", session_id = session_id,
    payload = M.payload("macp.v1.SessionStartPayload", payload),
  })
  for key, value in pairs(changes or {}) do envelope[key] = value end
  return envelope
end

local Stream = {}
Stream.__index = Stream

---Opens StreamSession. (yields)
function Rig:stream(token)
  local stream = assert(self.channel:stream(messages.rpc("StreamSession").path, { metadata = as(token) }))
  return setmetatable({ stream = stream }, Stream)
end

---Opens a server-streaming method; read() decodes its responses. (yields)
function Rig:watch(token, method)
  local stream = assert(self.channel:server_stream(messages.rpc(method).path, "", { metadata = as(token) }))
  return setmetatable({ stream = stream, response = codec(method .. "Response") }, Stream)
end

function Stream:write(request) return self.stream:write(assert(codec("StreamSessionRequest"):encode(request))) end

function Stream:subscribe(session_id, after)
  return self:write({ subscribe_session_id = session_id, after_sequence = after or 0 })
end

---The next response, decoded; nil at a clean end; nil, err otherwise. (yields)
function Stream:read()
  local bytes, err = self.stream:read()
  if bytes == nil then return nil, err end
  return assert((self.response or codec("StreamSessionResponse")):decode(bytes))
end

---The message ids of the next n envelopes. (yields)
function Stream:ids(n)
  local ids = {}
  for i = 1, n do
    local response, err = self:read()
    if response == nil then error("the stream ended after " .. i - 1 .. ": " .. (err and err.message or "clean"), 2) end
    ids[i] = response.envelope and response.envelope.message_id or ("error " .. response.error.code)
  end
  return ids
end

function Stream:half_close() self.stream:half_close() end

function Stream:cancel() self.stream:cancel() end

return M
