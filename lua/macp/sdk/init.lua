-- The agent SDK for Lua: `local macp = require("macp.sdk")`. Agents coordinate through sessions of a runtime.
--
--     local client = macp.client({ target = "127.0.0.1:50051", allow_insecure = true, auth = macp.auth.for_dev_agent("lead") })
--     local session = client:session("macp.mode.decision.v1")
--     session:start({ intent = "choose a cache size", participants = { "lead", "ana" }, ttl_ms = 60000 })
--     session:proposal({ proposal_id = "p1", option = "64 MiB", rationale = "fits the box" })

local auth = require("macp.sdk.auth")
local builder = require("macp.sdk.envelope_builder")
local client = require("macp.sdk.client")
local retry = require("macp.sdk.retry")
local sdk_errors = require("macp.sdk.errors")
local watch = require("macp.sdk.watch")

local M = {
  auth = auth, builder = builder, errors = sdk_errors, watch = watch, retry_policy = retry.policy,
}

local registry -- one per process: revisions are shared by all sessions

---Uses a registry of modes other than the shipped ones (`macp run --modes DIR` does).
function M.use_registry(new_registry) registry = new_registry end

-- The current revision of a mode, from the shipped modes unless told otherwise. (yields at first use)
local function find_mode(id)
  if registry == nil then
    local shipped = require("macp.modes.registry").new({})
    assert(shipped:load_all())
    registry = shipped
  end
  return registry:get(id)
end

---A client of a runtime; see macp.sdk.client for its options and methods.
function M.client(opts) return client.new(opts, find_mode) end

return M
