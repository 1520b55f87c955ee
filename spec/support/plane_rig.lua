-- The plane role inside the test program: a database of its own, our runtime over real gRPC, and an HTTP client.

local crypto = require("host.crypto")
local fetch = require("host.fetch")
local pg = require("host.pg")
local sys = require("host.sys")

local config = require("macp.config")
local json = require("macp.core.json")
local messages = require("macp.protocol.messages")
local metrics = require("macp.telemetry.metrics")
local tracing = require("macp.telemetry.tracing")

local eventually = require("spec.support.eventually")
local postgres = require("spec.support.postgres")
local runtime = require("spec.support.runtime_client")

local Rig = {}
Rig.__index = Rig

local M = { TENANT = "default" }

local TOKENS = [=[[{"token":"boss","sender":"boss"},{"token":"ann","sender":"ann"},{"token":"bob","sender":"bob"},
  {"token":"cy","sender":"cy"},{"token":"plane","sender":"plane","is_observer":true}]]=]

-- Starts (another) plane on the rig's database and runtime. (yields)
function Rig:start_plane(env)
  local all = {
    DATABASE_URL = self.url, PORT = "0", HOST = "127.0.0.1",
      RUNTIME_ADDRESS = self.address or self.runtime.role.address,
    RUNTIME_BEARER_TOKEN = "plane", THROTTLE_LIMIT = "1000000", STREAM_BACKOFF_BASE_MS = "20",
    STREAM_BACKOFF_MAX_MS = "100",
  }
  for name, value in pairs(self.env or {}) do all[name] = value end
  for name, value in pairs(env or {}) do all[name] = value end
  local cfg = assert(config.load(all))
  local registry = metrics.new()
  local tracer, spans = tracing.open(cfg.otel, { metrics = registry, pool = messages.pool })
  local role, err = require("macp.plane").start(cfg, {
    metrics = registry, version = "test", tracer = tracer,
    modes = function(given)
      return require("macp.modes.registry").new({ dirs = self.mode_dirs or {}, archive = given.archive, depth = "off" })
    end,
  })
  if role == nil then error(err.message, 2) end
  if spans then
    spans:start()
    self.spans = spans
  end
  return role
end

---One PostgreSQL for all rigs until the returned function is called: starting one takes longer than most specs.
---Nothing is started when the specs were given a server. (yields)
---@return function stop
---@return table|nil cluster
function M.share_database()
  if sys.env("TEST_DATABASE_URL") then return function() end end
  local cluster = postgres.start()
  sys.setenv("TEST_DATABASE_URL", cluster:conninfo("postgres"))
  return function()
    sys.setenv("TEST_DATABASE_URL", nil)
    cluster:stop()
  end, cluster
end

---Starts database, runtime and plane. (yields)
---@param opts { env: table|nil, runtime_env: table|nil, settings: table|nil, no_plane: boolean|nil,
---  address: string|nil }|nil
function M.start(opts)
  opts = opts or {}
  local rig = setmetatable({ env = opts.env, mode_dirs = opts.mode_dirs, address = opts.address }, Rig)
  local stop
  rig.url, stop, rig.cluster = postgres.database(opts.settings)
  rig.stop_database = stop
  rig.db = assert(pg.open({ conninfo = rig.url, size = 2 }))
  local runtime_env = { MACP_AUTH_TOKENS_JSON = TOKENS }
  for name, value in pairs(opts.runtime_env or {}) do runtime_env[name] = value end
  if not opts.address then rig.runtime = assert(runtime.start({ env = runtime_env, mode_dirs = opts.mode_dirs })) end
  if not opts.no_plane then rig.plane = rig:start_plane() end
  return rig
end

---Ends everything. (yields)
function Rig:destroy()
  if self.plane then self.plane:close() end
  if self.spans then self.spans:close(1000) end
  if self.runtime then self.runtime:destroy() end
  self.db:close()
  self.stop_database()
end

---One request to the plane; returns status, decoded body, headers. (yields)
function Rig:request(method, path, body, headers)
  local sent = { ["content-type"] = "application/json" }
  for name, value in pairs(headers or {}) do sent[name] = value end
  local reply = assert(fetch.request({
    url = self.plane.url .. path, method = method, headers = sent, max_body_bytes = 64 * 1024 * 1024,
    body = type(body) == "table" and json.encode(body) or body,
  }))
  local text = tostring(reply.body or "")
  return reply.status, text ~= "" and (json.decode(text) or text) or nil, reply.headers
end

function Rig:get(path, headers) return self:request("GET", path, nil, headers) end

function Rig:post(path, body, headers) return self:request("POST", path, body or {}, headers) end

---A body for POST /runs.
function M.descriptor(session_id, changes)
  local body = {
    mode = "live", runtime = { kind = "rust" },
    session = { sessionId = session_id, modeName = "macp.mode.decision.v1", modeVersion = "1.0.0",
      configurationVersion = "config.default", ttlMs = 60000, participants = { { id = "ann" }, { id = "bob" } } },
  }
  for key, value in pairs(changes or {}) do body[key] = value end
  return body
end

local DECISION = "macp.modes.decision.v1."

---Announces a run of a new session. (yields)
---@param changes table|nil members of the body instead of those of M.descriptor
---@return string run_id
---@return string session_id
---@return table accepted the answer
function Rig:announce(changes)
  local session_id = crypto.uuid4()
  local status, accepted = self:post("/runs", M.descriptor(session_id, changes))
  assert(status == 202, status)
  return accepted.runId, session_id, accepted
end

---Sends one envelope as `token` and expects it to be accepted. (yields)
---@param mode string|nil another one than the decision mode
function Rig:send(token, session_id, message_type, payload, message_id, mode)
  local ack = self.runtime:send(token, runtime.envelope({
    mode = mode, message_type = message_type, message_id = message_id or crypto.uuid4(), session_id = session_id,
    payload = payload, timestamp_unix_ms = sys.now_ms(),
  }))
  assert(ack.ok, message_type .. " was refused: " .. tostring(ack.error and ack.error.message))
  return ack
end

---Opens a session with ann and bob. (yields)
function Rig:open_session(session_id, fields)
  local ack = self.runtime:send("boss", runtime.start_envelope(session_id, fields))
  assert(ack.ok, ack.error and ack.error.message)
end

function Rig:propose(session_id, id, option)
  self:send("ann", session_id, "Proposal",
    runtime.payload(DECISION .. "ProposalPayload", { proposal_id = id, option = option or "ship",
      rationale = "tests pass" }))
end

function Rig:evaluate(session_id, token, id, reason)
  self:send(token, session_id, "Evaluation", runtime.payload(DECISION .. "EvaluationPayload",
    { proposal_id = id, recommendation = "APPROVE", confidence = 0.75, reason = reason or "fine" }))
end

function Rig:vote(session_id, token, id, vote)
  self:send(token, session_id, "Vote",
    runtime.payload(DECISION .. "VotePayload", { proposal_id = id, vote = vote or "APPROVE", reason = "because" }))
end

function Rig:commit(session_id)
  self:send("boss", session_id, "Commitment", runtime.payload("macp.v1.CommitmentPayload", {
    commitment_id = "c1", action = "decision.selected", authority_scope = "team", reason = "agreed",
    mode_version = "1.0.0", configuration_version = "config.default", outcome_positive = true,
  }))
end

---Plays a whole decision. (yields)
function Rig:play(session_id)
  self:open_session(session_id)
  self:propose(session_id, "p1")
  self:vote(session_id, "ann", "p1")
  self:vote(session_id, "bob", "p1")
  self:commit(session_id)
end

---A run from its announcement to its end: a whole decision. (yields)
---@param change fun(body: table)|nil changes what is announced
---@return string run_id
---@return string session_id
---@return table accepted the answer to the announcement
function Rig:finished_run(change)
  local body = M.descriptor(crypto.uuid4())
  if change then change(body) end
  local status, accepted = self:post("/runs", body)
  assert(status == 202, status)
  self:play(body.session.sessionId)
  self:await(accepted.runId, "completed")
  return accepted.runId, body.session.sessionId, accepted
end

---Waits until a run has a status; returns the record. (yields)
function Rig:await(run_id, status, timeout_ms)
  return eventually(function()
    local code, run = self:get("/runs/" .. run_id)
    if code == 200 and run.status == status then return run end
    return nil, run and run.status or code
  end, timeout_ms or 5000, "run " .. status)
end

---All stored events of a run, decoded. (yields)
function Rig:events(run_id)
  local code, events = self:get("/runs/" .. run_id .. "/events?limit=5000")
  assert(code == 200, code)
  return events
end

---Rows of one query. (yields)
function Rig:rows(text, ...)
  return assert(self.db:query(text, { n = select("#", ...), ... })).rows
end

-- Splits what arrived into frames { event, id, data }.
local function parse_frames(buffer, into)
  while true do
    local stop = buffer:find("\n\n", 1, true)
    if stop == nil then return buffer end
    local block = buffer:sub(1, stop - 1):gsub("^\n+", "")
    buffer = buffer:sub(stop + 2)
    local found = {}
    for line in block:gmatch("[^\n]+") do
      local name, value = line:match("^(%w+): (.*)$")
      if name then found[name] = value end
    end
    if found.event then into[#into + 1] = found end
  end
end

local Stream = {}
Stream.__index = Stream

---Reads until `done(frames)` or the end of the stream. (yields)
function Stream:read_until(done)
  while not done(self.frames) do
    local chunk, err = self.reply:read()
    if chunk == nil then
      self.ended, self.failure = true, err and err.message
      return self.frames
    end
    self.buffer = parse_frames(self.buffer .. tostring(chunk), self.frames)
  end
  return self.frames
end

---Reads until the server ends the stream. (yields)
function Stream:read_all()
  return self:read_until(function() return false end)
end

---The numbers of the canonical events so far.
function Stream:seqs()
  local seqs = {}
  for _, frame in ipairs(self.frames) do
    if frame.event == "canonical_event" then seqs[#seqs + 1] = tonumber(frame.id) end
  end
  return seqs
end

function Stream:close() self.reply:close() end

---Opens an event stream. (yields)
function Rig:stream(path, headers)
  local reply = assert(fetch.open({ url = self.plane.url .. path, headers = headers or {}, timeout_ms = 60000,
    max_body_bytes = 1073741824 }))
  return setmetatable({ reply = reply, status = reply.status, headers = reply.headers, frames = {}, buffer = "",
    ended = false }, Stream)
end

return M
