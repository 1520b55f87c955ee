-- Load on a runtime: sessions of the decision mode and Evaluations into them, by the C client for rates and by the SDK
-- for everything else.

local child = require("host.child")
local fs = require("host.fs")
local sys = require("host.sys")

local json = require("macp.core.json")
local macp = require("macp.sdk")
local messages = require("macp.protocol.messages")

local workers = require("spec.support.workers")

local MODE = "macp.mode.decision.v1"
local STARTERS = 64 -- tasks that start sessions at the same time

local M = { MODE = MODE }

---The directory with the C load programs: beside the program that runs.
function M.programs() return sys.executable():match("^(.*)/[^/]*$") .. "/bench" end

---A client of a runtime as an agent.
function M.client(target, name)
  return macp.client({ target = target, allow_insecure = true, auth = macp.auth.for_dev_agent(name or "lead") })
end

---Starts sessions, each with one proposal `p1`. Ids are prefix .. six digits. Returns the prefix. (yields)
function M.sessions(target, count, ttl_ms)
  local client = M.client(target)
  local prefix = "bench-" .. macp.builder.new_id():gsub("-", ""):sub(1, 18)
  workers.each(count, STARTERS, function(i)
    local session = client:session(MODE, { session_id = prefix .. string.format("%06d", i - 1) })
    session:start({ intent = "load", participants = { "lead", "ana" }, ttl_ms = ttl_ms or 3600000 })
    session:proposal({ proposal_id = "p1", option = "one" })
    session:close()
  end)
  client:close()
  return prefix
end

-- The first bytes of every accepting reply: made from one with fields of the same lengths.
local function accepting_prefix(session_id)
  local reply = assert(messages.codec("macp.v1.SendResponse"):encode({
    ack = {
      ok = true, message_id = "m0000000000", session_id = session_id, accepted_at_unix_ms = sys.now_ms(),
      session_state = "SESSION_STATE_OPEN",
    },
  }))
  return (reply:sub(1, 4):gsub(".", function(c) return string.format("%02x", c:byte()) end))
end

---Sends Evaluations spread over the sessions of a prefix with the C client, as the SDKs of the protocol write them:
---with sender and time. Returns its report. (yields)
---@param opts { target: string, prefix: string, sessions: integer, calls: integer, in_flight: integer, first: integer|nil, exact: boolean|nil,
---  connections: integer|nil }
--- exact: prefix is the id of the one session; connections: 1 unless given; opts.token: the credential, by default that of the agent `lead`
function M.send(opts)
  local evaluation = assert(messages.codec("macp.modes.decision.v1.EvaluationPayload"):encode({
    proposal_id = "p1", recommendation = "APPROVE", confidence = 0.5, reason = "measured and found good enough",
  }))
  local request = assert(messages.codec("macp.v1.SendRequest"):encode({
    envelope = {
      macp_version = "1.0", mode = MODE, message_type = "Evaluation", message_id = "m%%%%%%%%%%",
      session_id = opts.exact and opts.prefix or opts.prefix .. "~~~~~~", timestamp_unix_ms = sys.now_ms(),
      sender = "lead", payload = evaluation,
    },
  }))
  local dir = assert(fs.temp_dir("macp-load"))
  assert(fs.write(dir .. "/request", request, { sync = false }))
  local proc = assert(child.spawn({
    file = M.programs() .. "/rpc_load", stdout = "pipe", stderr = "inherit",
    args = {
      "--target", opts.target, "--method", messages.rpc("Send").path, "--calls", tostring(opts.calls),
      "--in-flight", tostring(opts.in_flight), "--groups", tostring(opts.sessions),
      "--first", tostring(opts.first or 0), "--channels", tostring(opts.connections or 1),
      "--request-file", dir .. "/request", "--metadata", "authorization:Bearer " .. (opts.token or "lead"),
      "--ok-prefix-hex", accepting_prefix(opts.exact and opts.prefix or opts.prefix .. "000000"),
    },
  }))
  local line = proc:read_line("stdout")
  local status = proc:wait()
  proc:close()
  fs.remove_tree(dir)
  local report = line and json.decode(line)
  if status.code ~= 0 or not report then error("rpc_load failed: " .. tostring(line)) end
  if report.failed > 0 then error("rpc_load: " .. report.failed .. " calls failed: " .. line) end
  return report
end

return M
