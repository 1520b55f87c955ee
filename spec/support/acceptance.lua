-- A runtime as a foreign client meets it: the real program as a child process of its own, without standard output and
-- error, asked over gRPC and nothing else. ACCEPTANCE_ENDPOINT=host:port names one that runs already instead: it must
-- accept any bearer as the sender of that name, as macp-runtime does with MACP_ALLOW_INSECURE=1.

local child = require("host.child")
local crypto = require("host.crypto")
local fs = require("host.fs")
local rpc = require("host.rpc")
local sys = require("host.sys")
local task = require("host.task")

local client = require("spec.support.runtime_client")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local patience = require("spec.support.patience")
local ports = require("spec.support.ports")

local READY_MS = 10000
local NUMBERS = { enums = "number" }
local GIVEN = sys.env("ACCEPTANCE_ENDPOINT")
local MULTI_ROUND = "ext.multi_round.v1"

local Endpoint, Session = {}, {}
Endpoint.__index, Session.__index = Endpoint, Session

local M = { given = GIVEN ~= "" and GIVEN or nil, MULTI_ROUND = MULTI_ROUND }

---The environment of a child: this one without settings of the program, the suite's own, and `more`; false removes.
function M.environment(more)
  local env = {}
  for name, value in pairs(sys.environ()) do
    if not name:find("^MACP_") and name ~= "RUST_LOG" and name ~= "LOG_LEVEL" then env[name] = value end
  end
  env.MACP_ALLOW_INSECURE, env.MACP_MEMORY_ONLY = "1", "1"
  for name, value in pairs(more or {}) do env[name] = value or nil end
  return env
end

---One Initialize; nil, err when it fails. (yields)
function Endpoint:initialize()
  return self.rig:call(nil, "Initialize", { supported_protocol_versions = { "1.0" } })
end

local function wait_until_ready(self)
  local deadline = sys.mono_ms() + patience(READY_MS)
  while not self:initialize() do
    if self.status or sys.mono_ms() > deadline then
      self:stop()
      error("no answer to Initialize at " .. self.address, 3)
    end
    task.sleep(20)
  end
  return self
end

local function connect(address, tls)
  local rig = client.connect(address)
  if tls then
    rig.channel:close()
    rig.channel = assert(rpc.channel({ target = address, tls = tls, own_connection = true }))
  end
  return rig
end

---A program of its own, whatever ACCEPTANCE_ENDPOINT says. (yields)
---@param opts { env: table|nil, tls: table|nil, prefix: string|nil }|nil env: changes of the suite's environment, false
--- removes a variable; tls: how to connect; prefix: what runs the program, e.g. strace
function M.start_own(opts)
  opts = opts or {}
  local port = ports.free()
  local env = M.environment(opts.env)
  env.MACP_BIND_ADDR = "127.0.0.1:" .. port
  local self = setmetatable({ address = (opts.tls and "localhost:" or "127.0.0.1:") .. port }, Endpoint)
  self.proc = assert(child.spawn({
    file = "/bin/sh", env = env,
    args = { "-c", "exec " .. (opts.prefix or "") .. ' "$0" runtime >&- 2>&-', sys.executable() },
    own_session = true, stdout = "null", stderr = "null",
  }))
  self.waiter = task.spawn(function() self.status = self.proc:wait() end)
  self.rig = connect(self.address, opts.tls)
  return wait_until_ready(self)
end

---The endpoint under test: the one that is given, else a program with the suite's environment. (yields)
function M.start()
  if not M.given then return M.start_own({ env = { MACP_SESSION_START_LIMIT_PER_MINUTE = "1000000" } }) end
  return wait_until_ready(setmetatable({ address = M.given, rig = connect(M.given) }, Endpoint))
end

---Another client of the same endpoint, over a connection of its own. Close its channel.
function Endpoint:connect() return connect(self.address) end

---kill -9. (yields)
function Endpoint:crash()
  self.proc:kill("KILL")
  self.waiter:join()
end

---Waits for the end of the child: { code =, signal = }; nil when it goes on. (yields)
function Endpoint:wait(timeout_ms)
  task.with_deadline(patience(timeout_ms), function() self.waiter:join() end)
  return self.status
end

---Ends what was started, and the connection. (yields)
function Endpoint:stop()
  self.rig.channel:close()
  if self.proc == nil then return end
  if not self.status then self:crash() end
  self.proc:close()
end

---Status of a unary call: 0 with the response, else the gRPC status with nil and the error. (yields)
function Endpoint:ask(token, method, request)
  local response, err = self.rig:call(token, method, request or {})
  if response == nil and err.status == nil then error(method .. ": " .. tostring(err.message), 2) end
  return response and 0 or err.status, response, err
end

---The first response of a server stream; nil, err when it ended. (yields)
function Endpoint:first(token, method)
  local watch = self.rig:watch(token, method)
  local response, err = task.with_deadline(patience(5000), function() return watch:read() end)
  watch:cancel()
  return response, err
end

---Reads a server stream in the background; `seen` holds what came, `ended` how it ended. Close it with cancel().
function Endpoint:follow(token, method)
  local path = messages.rpc(method).path
  local stream = assert(self.rig.channel:server_stream(path, "", {
    metadata = token and { authorization = "Bearer " .. token } or {},
  }))
  local codec = messages.codec("macp.v1." .. method .. "Response", NUMBERS)
  local follower = { seen = {} }
  local reader = task.spawn(function()
    while true do
      local bytes, err = stream:read()
      if bytes == nil then
        follower.ended = err or "OK"
        return
      end
      follower.seen[#follower.seen + 1] = assert(codec:decode(bytes))
    end
  end)
  function follower.cancel()
    stream:cancel()
    reader:join()
  end
  return follower
end

-- --- sessions ---

---"decision" to "macp.mode.decision.v1"; a full id stays.
function M.mode_id(name)
  if name == "multi_round" then return MULTI_ROUND end
  return name:find(".", 1, true) and name or "macp.mode." .. name .. ".v1"
end

---Bytes of a mode's payload; contributions are JSON, as older clients send them.
function M.payload(mode, message_type, fields)
  if message_type == "Commitment" then return client.payload("macp.v1.CommitmentPayload", fields) end
  if mode == "multi_round" then return json.encode(fields) end
  return client.payload(string.format("macp.modes.%s.v1.%sPayload", mode, message_type), fields)
end

---A session that is not started yet.
---@param opts { mode: string, by: string|nil, participants: string[]|nil, id: string|nil, fields: table|nil,
--- changes: table|nil } by: the initiator; fields of the payload and changes of the envelope of its start
function Endpoint:new_session(opts)
  return setmetatable({
    at = self, mode = opts.mode, by = opts.by or "agent://lead", id = opts.id or crypto.uuid4(), n = 0,
    participants = opts.participants or { "agent://ann", "agent://bob" }, fields = opts.fields, changes = opts.changes,
  }, Session)
end

---The envelope of its SessionStart.
function Session:start_envelope()
  local fields = { participants = self.participants, policy_version = "policy.default", ttl_ms = 60000 }
  for name, value in pairs(self.fields or {}) do fields[name] = value end
  local changes = { mode = M.mode_id(self.mode), message_id = crypto.uuid4() }
  for name, value in pairs(self.changes or {}) do changes[name] = value end
  return client.start_envelope(self.id, fields, changes)
end

---Sends its SessionStart; returns the ack. (yields)
function Session:start() return self.at.rig:send(self.by, self:start_envelope()) end

---A session that was started. (yields)
function Endpoint:session(opts)
  local session = self:new_session(opts)
  local ack = session:start()
  if not ack.ok then error(ack.error.code .. ": " .. ack.error.message, 2) end
  return session
end

---An envelope of this session.
---@param fields table|string of the payload, or its bytes
function Session:envelope(message_type, fields, message_id)
  local payload = type(fields) == "string" and fields or M.payload(self.mode, message_type, fields or {})
  return client.envelope({
    mode = M.mode_id(self.mode), session_id = self.id, message_type = message_type,
    message_id = message_id or crypto.uuid4(), payload = payload,
  })
end

---Sends one message; returns its ack. (yields)
function Session:send(by, message_type, fields, message_id)
  return self.at.rig:send(by, self:envelope(message_type, fields, message_id))
end

---Sends what must be accepted. (yields)
function Session:tell(by, message_type, fields, message_id)
  local ack = self:send(by, message_type, fields, message_id)
  if not ack.ok then error(message_type .. ": " .. ack.error.code .. ": " .. ack.error.message, 2) end
  return ack
end

---Sends a Commitment; returns its ack. (yields)
function Session:commit(action, changes, by)
  local fields = {
    commitment_id = crypto.uuid4(), action = action, authority_scope = "team", reason = "as agreed",
    mode_version = "1.0.0", configuration_version = "config.default", policy_version = "policy.default",
    outcome_positive = true,
  }
  for name, value in pairs(changes or {}) do fields[name] = value end
  return self:send(by or self.by, "Commitment", fields)
end

---Its metadata as the initiator sees it. (yields)
function Session:metadata()
  return assert(self.at.rig:call(self.by, "GetSession", { session_id = self.id })).metadata
end

---SuspendSession and its like; returns the ack, or nil and the error. (yields)
function Session:control(by, method)
  local response, err = self.at.rig:call(by, method, { session_id = self.id, reason = "spec" })
  return response and response.ack, err
end

-- --- specs ---

---`it` for what needs a program with settings of its own: pending when an endpoint is given.
function M.own_it(it, pending)
  return function(name, fn)
    if M.given then pending(name) else it(name, fn) end
  end
end

---Runs fn(endpoint) against a program of its own that ends with it. (yields)
function M.with(opts, fn)
  local at = M.start_own(opts)
  local ok, err = xpcall(fn, function(problem)
    return type(problem) == "string" and debug.traceback(problem, 2) or problem
  end, at)
  at:stop()
  if not ok then error(err, 0) end
end

---Runs fn(dir) with a directory that is removed afterwards. (yields)
function M.with_dir(fn)
  local dir = assert(fs.temp_dir("macp-acceptance"))
  local ok, err = xpcall(fn, function(problem)
    return type(problem) == "string" and debug.traceback(problem, 2) or problem
  end, dir)
  fs.remove_tree(dir)
  if not ok then error(err, 0) end
end

return M
