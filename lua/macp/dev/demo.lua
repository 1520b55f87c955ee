-- The session that `macp dev` plays: it is announced to the control plane as a run, then three agents of
-- examples/quickstart decide, slowly enough to be watched.

local crypto = require("host.crypto")
local embed = require("host.embed")
local fetch = require("host.fetch")

local console = require("macp.core.console")
local json = require("macp.core.json")

local SCRIPT = "examples/quickstart/decision.lua"
local PAUSE_MS = 700

local M = {}

-- Announces the session to the plane, so that the run exists before its first message. (yields)
local function create_run(url, session_id, api_key)
  local headers = { ["content-type"] = "application/json" }
  if api_key then headers.authorization = "Bearer " .. api_key end
  local reply, err = fetch.request({
    url = url .. "/runs", method = "POST", headers = headers,
    body = json.encode({
      mode = "live",
      runtime = { kind = "rust" },
      session = {
        sessionId = session_id, modeName = "macp.mode.decision.v1", modeVersion = "1.0.0",
        configurationVersion = "config.default", ttlMs = 600000,
        participants = { { id = "lead" }, { id = "ana" }, { id = "ben" } },
        metadata = { source = "quickstart", sourceRef = "choose-a-cache" },
      },
      execution = { tags = { "quickstart" } },
    }),
  })
  if not reply then return nil, err.message end
  if reply.status >= 300 then return nil, "POST /runs answered " .. reply.status .. ": " .. reply.body end
  return json.decode(reply.body).runId
end

local function announce(url, run_id, api_key)
  local style = console.style()
  local key = api_key and " -H 'Authorization: Bearer KEY'" or ""
  local base = url .. "/runs/" .. run_id
  local function line(what, command) console.print("  " .. style.bold(string.format("%-10s", what)) .. command) end
  console.print("")
  console.print(style.bold("A session to watch: three agents choose a cache"))
  line("live", "curl -N" .. key .. " " .. base .. "/stream")
  line("state", "curl -s" .. key .. " " .. base .. "/state")
  line("events", "curl -s" .. key .. " " .. base .. "/events")
  line("replay", "curl -N" .. key .. " '" .. base .. "/replay/stream?mode=timed'")
  line("all runs", "curl -s" .. key .. " " .. url .. "/runs")
  line("API", url .. "/docs")
  console.print("")
end

-- The URL that a person on this machine can open.
local function local_url(url) return (url:gsub("0%.0%.0%.0", "127.0.0.1")) end

---Plays the session once. (yields)
---@param opts { url: string, target: string, api_key: string|nil, pause_ms: integer|nil }
---@return true|nil, string|nil problem
function M.play(opts)
  local url = local_url(opts.url)
  local session_id = crypto.uuid4()
  local run_id, problem = create_run(url, session_id, opts.api_key)
  if not run_id then return nil, problem end
  announce(url, run_id, opts.api_key)
  local script = assert(loadstring(assert(embed.read(SCRIPT)), "@" .. SCRIPT))
  local ok, err = pcall(script, opts.target, opts.pause_ms or PAUSE_MS, session_id)
  if not ok then return nil, tostring(type(err) == "table" and err.message or err) end
  return true
end

return M
